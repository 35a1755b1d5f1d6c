//! What is noticed, without waiting for it: the kernel queues a notice before the call that caused it returns.

use super::*;
use std::fs;
use std::future::Future;
use std::io::Write;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A folder with a configuration that is watched and has not changed.
fn watched() -> (tempfile::TempDir, PathBuf, Watch) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.yml");
    fs::write(&file, "one").unwrap();
    let mut watch = Watch::new(std::slice::from_ref(&file));
    assert!(watch.changed.take().is_some(), "what changed before it was watched");
    (folder, file, watch)
}

/// Whether a change was noticed since the last time.
fn noticed(watch: &mut Watch) -> bool {
    watch.take();
    watch.changed.take().is_some()
}

/// Makes it the time of the regular look.
fn time_passes(watch: &mut Watch) {
    let long_ago = Instant::now().checked_sub(REREAD).unwrap();
    (watch.reread, watch.stirred) = (long_ago, long_ago);
}

#[test]
fn a_busy_log_in_the_same_folder_wakes_nobody() {
    let (folder, file, watch) = watched();
    let mut log = fs::File::create(folder.path().join("x.log")).unwrap();
    let notices = watch.notices.as_ref().unwrap();
    let mut watch_of_the_log = Notices::new().unwrap();
    watch_of_the_log.watch(&Places::of(&[folder.path().join("x.log")])).unwrap();
    run(async {
        let queued = async |notices: &Notices| tokio::time::timeout(DEBOUNCE, notices.wait()).await.is_ok();
        assert!(queued(notices).await, "a new name is looked at");
    });
    let mut watch = watch;
    assert!(!noticed(&mut watch), "and is none of ours");
    for i in 0..10_000 {
        if i % 2 == 0 {
            log = fs::File::options().append(true).open(folder.path().join("x.log")).unwrap();
        }
        writeln!(log, "line {i}").unwrap();
    }
    fs::read(&file).unwrap();
    let notices = watch.notices.as_ref().unwrap();
    run(async {
        assert!(tokio::time::timeout(DEBOUNCE, notices.wait()).await.is_err(), "lines and readers are not looked at");
        assert!(watch_of_the_log.wait().await.is_ok(), "they would have been seen");
    });
    assert_eq!(watch_of_the_log.take(), News::Change);
}

#[test]
fn every_way_to_change_a_file_is_noticed() {
    let (folder, file, mut watch) = watched();
    let other = folder.path().join("other");
    let mut open = fs::File::options().append(true).open(&file).unwrap();
    let ways: [(&str, &mut dyn FnMut()); 10] = [
        ("closed after writing", &mut || fs::write(&file, "two").unwrap()),
        ("written over", &mut || {
            fs::rename(
                {
                    fs::write(&other, "3").unwrap();
                    &other
                },
                &file,
            )
            .unwrap()
        }),
        ("renamed away", &mut || fs::rename(&file, &other).unwrap()),
        ("linked", &mut || fs::hard_link(&other, &file).unwrap()),
        ("written by its other name", &mut || fs::write(&other, "four").unwrap()),
        ("deleted", &mut || fs::remove_file(&file).unwrap()),
        ("made a link", &mut || std::os::unix::fs::symlink("other", &file).unwrap()),
        ("written behind the link", &mut || fs::write(&other, "five").unwrap()),
        ("moved behind the link", &mut || fs::rename(&other, folder.path().join("away")).unwrap()),
        ("found again", &mut || fs::write(&other, "six").unwrap()),
    ];
    for (way, act) in ways {
        act();
        assert!(noticed(&mut watch), "{way}");
        assert!(!noticed(&mut watch), "{way}: looking is no change");
    }
    open.write_all(b"no name any more").unwrap();
    drop(open);
    assert!(!noticed(&mut watch));
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let (_folder, file, mut watch) = watched();
    let mut writer = fs::File::create(&file).unwrap();
    let mut last = watch.stirred;
    for _ in 0..3 {
        writer.write_all(b"chunk").unwrap();
        watch.take();
        assert!(watch.changed.is_none(), "it will be closed");
        assert!(watch.stirred > last);
        assert_eq!(watch.due(), watch.reread, "the next look is far away");
        last = watch.stirred;
    }
    watch.reread = Instant::now();
    assert_eq!(watch.due(), watch.stirred + DEBOUNCE, "the regular look waits for the writer as well");
    drop(writer);
    assert!(noticed(&mut watch));
}

#[test]
fn a_new_file_is_waited_for_but_not_for_ever() {
    let (_folder, file, mut watch) = watched();
    fs::remove_file(&file).unwrap();
    assert!(noticed(&mut watch));
    let mut writer = fs::File::create(&file).unwrap();
    watch.take();
    let first = watch.changed.unwrap();
    assert_eq!(watch.due(), watch.stirred + DEBOUNCE);
    writer.write_all(b"chunk").unwrap();
    let before = watch.stirred;
    watch.take();
    assert!(watch.stirred > before && watch.changed == Some(first));
    watch.stirred = first + MOST_DEBOUNCE;
    assert_eq!(watch.due(), first + MOST_DEBOUNCE);
}

#[test]
fn the_regular_look_comes_without_a_change_and_watches_anew() {
    let (folder, file, mut watch) = watched();
    // As where the kernel says nothing: nothing is watched.
    watch.notices = Some(Notices::new().unwrap());
    fs::write(&file, "two").unwrap();
    assert!(!noticed(&mut watch));
    time_passes(&mut watch);
    assert_eq!(run(watch.changed()), Trigger::Periodic);
    assert!(watch.reread > Instant::now() + REREAD / 2);
    fs::write(&file, "three").unwrap();
    assert!(noticed(&mut watch));
    watch.notices = None;
    time_passes(&mut watch);
    assert_eq!(run(watch.changed()), Trigger::Periodic);
    fs::rename(&file, folder.path().join("away")).unwrap();
    assert!(noticed(&mut watch));
}
