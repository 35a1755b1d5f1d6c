//! Changes of configuration files as editors, deploy tools and the kubelet make them: each is noticed, and read when whole.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use outrigger::reload::{Trigger, Watch};
use tempfile::TempDir;
use tokio::time::timeout;

/// Shorter than the regular look, which must not do the work of the notices.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than files must be quiet.
const A_WHILE: Duration = Duration::from_millis(600);

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// The next trigger, which a change has caused.
async fn change(watch: &mut Watch, what: &str) {
    let trigger = timeout(PATIENCE, watch.changed()).await;
    assert_eq!(trigger.unwrap_or_else(|_| panic!("not noticed: {what}")), Trigger::File, "{what}");
}

async fn no_change(watch: &mut Watch, what: &str) {
    assert!(timeout(A_WHILE, watch.changed()).await.is_err(), "noticed: {what}");
}

/// A watch of this file that knows it as it is.
async fn watch(file: &Path) -> Watch {
    let mut watch = Watch::new(&[file.to_owned()]);
    change(&mut watch, "what came before the watch").await;
    watch
}

/// A folder with one configuration, `x.yml`, that says `0`.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("x.yml");
    fs::write(&file, "0").unwrap();
    (folder, file)
}

/// Writes a ConfigMap's new content and swaps it in, as the kubelet does it.
fn swap(mount: &Path, number: usize) {
    let name = format!("..2026_01_01_{number}");
    fs::create_dir(mount.join(&name)).unwrap();
    fs::write(mount.join(&name).join("x.yml"), number.to_string()).unwrap();
    let old = fs::read_link(mount.join("..data"));
    symlink(&name, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if let Ok(old) = old {
        fs::remove_dir_all(mount.join(old)).unwrap();
    } else {
        symlink("..data/x.yml", mount.join("x.yml")).unwrap();
    }
}

/// Moves another file over it.
fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn every_swap_of_a_config_map_is_noticed() {
    let mount = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = mount.path().join("x.yml");
    swap(mount.path(), 0);
    run(async {
        let mut watch = watch(&file).await;
        for number in 1..=10 {
            swap(mount.path(), number);
            change(&mut watch, "a swap").await;
            assert_eq!(fs::read_to_string(&file).unwrap(), number.to_string());
        }
        no_change(&mut watch, "nothing after the last swap").await;
    });
}

#[test]
fn many_swaps_at_once_are_one_change() {
    let mount = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    swap(mount.path(), 0);
    run(async {
        let mut watch = watch(&mount.path().join("x.yml")).await;
        (1..=10).for_each(|number| swap(mount.path(), number));
        change(&mut watch, "ten swaps").await;
        no_change(&mut watch, "ten swaps once more").await;
        swap(mount.path(), 11);
        change(&mut watch, "the last swap").await;
    });
}

#[test]
fn editors_are_noticed() {
    let (_folder, file) = folder();
    run(async {
        let mut watch = watch(&file).await;
        for _ in 0..3 {
            // vim: the old file becomes a backup, which goes at the end.
            let backup = file.with_extension("yml~");
            fs::rename(&file, &backup).unwrap();
            fs::write(&file, "vim").unwrap();
            fs::remove_file(backup).unwrap();
            change(&mut watch, "a backup and a new file").await;
            no_change(&mut watch, "a backup and a new file once more").await;
            replace(&file, "another editor");
            change(&mut watch, "another file in its place").await;
            no_change(&mut watch, "another file in its place once more").await;
        }
    });
}

#[test]
fn a_file_that_is_written_bit_by_bit_is_read_when_it_is_whole() {
    let (_folder, file) = folder();
    let whole = "0123456789".repeat(3);
    run(async {
        let mut watch = watch(&file).await;
        let writer = thread::spawn({
            let (file, whole) = (file.clone(), whole.clone());
            move || {
                let mut open = fs::File::create(file).unwrap();
                for byte in whole.as_bytes() {
                    open.write_all(&[*byte]).unwrap();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        change(&mut watch, "a slow writer").await;
        assert_eq!(fs::read_to_string(&file).unwrap(), whole);
        no_change(&mut watch, "a slow writer once more").await;
        writer.join().unwrap();
    });
}

#[test]
fn other_files_in_the_folder_are_not_noticed() {
    let (folder, file) = folder();
    run(async {
        let mut watch = watch(&file).await;
        let mut log = fs::File::create(folder.path().join("x.log")).unwrap();
        for line in 0..10_000 {
            writeln!(log, "{line}").unwrap();
        }
        fs::rename(folder.path().join("x.log"), folder.path().join("x.log.1")).unwrap();
        fs::create_dir(folder.path().join("y.yml")).unwrap();
        no_change(&mut watch, "other files").await;
    });
}

#[test]
fn a_folder_that_is_made_anew_is_followed() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (conf, file) = (root.path().join("a/conf"), root.path().join("a/conf/x.yml"));
    let make = |content: &str| {
        fs::create_dir_all(&conf).unwrap();
        fs::write(&file, content).unwrap();
    };
    make("0");
    run(async {
        let mut watch = watch(&file).await;
        for _ in 0..3 {
            fs::remove_dir_all(&conf).unwrap();
            change(&mut watch, "the folder is removed").await;
            make("1");
            change(&mut watch, "the folder is back").await;
            fs::write(&file, "2").unwrap();
            change(&mut watch, "a change in the new folder").await;
            fs::remove_dir_all(root.path().join("a")).unwrap();
            make("3");
            change(&mut watch, "its parent is made anew").await;
            fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
            change(&mut watch, "its parent is moved away").await;
            fs::rename(root.path().join("b"), root.path().join("a")).unwrap();
            change(&mut watch, "its parent is moved back").await;
            replace(&file, "4");
            change(&mut watch, "a change at the old place").await;
            no_change(&mut watch, "nothing after the last change").await;
        }
    });
}

#[test]
fn a_release_that_a_link_points_to_is_followed() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| root.path().join(name);
    for release in ["1", "2"] {
        fs::create_dir_all(at("releases").join(release)).unwrap();
        fs::write(at("releases").join(release).join("x.yml"), release).unwrap();
    }
    symlink("releases/1", at("current")).unwrap();
    run(async {
        let mut watch = watch(&at("current/x.yml")).await;
        symlink("releases/2", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        change(&mut watch, "the link points elsewhere").await;
        fs::write(at("releases/1/x.yml"), "old").unwrap();
        no_change(&mut watch, "the old release").await;
        fs::write(at("releases/2/x.yml"), "new").unwrap();
        change(&mut watch, "the new release").await;
    });
}

#[test]
fn password_files_are_followed_from_the_moment_they_matter() {
    let (folder, file) = folder();
    let secret = folder.path().join("secrets/redis");
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(&secret, "old").unwrap();
    run(async {
        let mut watch = watch(&file).await;
        fs::write(&secret, "not watched").unwrap();
        no_change(&mut watch, "a file that does not matter").await;
        let both = [file.clone(), secret.clone()];
        watch.follow(&both);
        change(&mut watch, "what came before it was watched").await;
        watch.follow(&both);
        no_change(&mut watch, "the same files").await;
        replace(&secret, "new");
        change(&mut watch, "the password").await;
        replace(&file, "1");
        change(&mut watch, "the configuration").await;
        watch.follow(&both[..1]);
        replace(&secret, "newer");
        no_change(&mut watch, "a file that does not matter any more").await;
    });
}

#[test]
fn a_wait_that_is_cut_short_misses_nothing() {
    let (_folder, file) = folder();
    run(async {
        let mut watch = watch(&file).await;
        for content in ["1", "2", "3"] {
            let _ = timeout(Duration::from_millis(5), watch.changed()).await;
            fs::write(&file, content).unwrap();
            let triggers = async {
                loop {
                    if let Ok(trigger) = timeout(Duration::from_millis(5), watch.changed()).await {
                        break trigger;
                    }
                }
            };
            assert_eq!(timeout(PATIENCE, triggers).await, Ok(Trigger::File));
        }
    });
}

#[test]
fn changes_without_end_are_read_in_between() {
    let (_folder, file) = folder();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    run(async {
        let mut watch = watch(&file).await;
        let writer = thread::spawn({
            let file = file.clone();
            move || {
                while stopped.recv_timeout(Duration::from_millis(10)).is_err_and(|e| !is_over(e)) {
                    replace(&file, "again");
                }
            }
        });
        change(&mut watch, "a file that never rests").await;
        change(&mut watch, "a file that never rests, again").await;
        drop(stop);
        writer.join().unwrap();
    });
}

fn is_over(error: std::sync::mpsc::RecvTimeoutError) -> bool {
    error == std::sync::mpsc::RecvTimeoutError::Disconnected
}

/// Whatever happens while the watch looks: the last content is read without the regular look.
#[test]
fn nothing_is_missed_while_files_links_and_folders_change_at_once() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| root.path().join(name);
    let file = at("conf/x.yml");
    swap_folder(root.path(), 0);
    run(async {
        let mut watch = watch(&file).await;
        for round in 1..=15 {
            let last = format!("round {round}");
            let writer = thread::spawn({
                let (root, file, last) = (root.path().to_owned(), file.clone(), last.clone());
                move || {
                    for step in 0..40 {
                        match (step * 7 + round) % 5 {
                            0 => swap_folder(&root, round * 100 + step),
                            1 => replace(&file, "replaced"),
                            2 => fs::write(&file, "written").unwrap(),
                            3 => fs::remove_file(&file).unwrap(),
                            _ => {
                                let _ = fs::remove_file(&file);
                                fs::write(root.join("elsewhere"), "linked").unwrap();
                                symlink(root.join("elsewhere"), &file).unwrap();
                            }
                        }
                        if step % 3 == 0 {
                            thread::sleep(Duration::from_micros(300 * step as u64));
                        }
                    }
                    fs::write(&file, last).unwrap();
                }
            });
            while fs::read_to_string(&file).ok().as_ref() != Some(&last) {
                change(&mut watch, &last).await;
            }
            writer.join().unwrap();
        }
    });
}

/// Makes `conf` a link to a new folder with a configuration.
fn swap_folder(root: &Path, number: usize) {
    let folder = root.join(format!("conf-{number}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x.yml"), "swapped").unwrap();
    symlink(&folder, root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("conf")).unwrap();
}
