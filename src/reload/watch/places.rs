//! Where a change of a file can show. Only looks at the file system as it is now.
//!
//! Kubernetes mounts `config.yml -> ..data/config.yml` and `..data -> ..2026_01_01`, and swaps `..data`. Each name on the way
//! counts where it stands; so does the file at its end:
//! ```text
//!   /etc/outrigger              config.yml, ..data
//!   /etc/outrigger/..2026_01_01 config.yml
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Symbolic links on the way to one file, as in the kernel.
const MOST_LINKS: usize = 40;

/// What to watch. No path in it goes through a symbolic link.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Folders with the names in them that matter; without any, only the folder's own moves and end do. Parents come before
    /// what is in them.
    pub folders: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// The files themselves, which may change in place.
    pub files: BTreeSet<PathBuf>,
}

impl Places {
    pub fn of(sources: &[PathBuf]) -> Self {
        let mut places = Self::default();
        for source in sources {
            // Without a current folder there is nothing that a relative path could mean.
            if let Ok(source) = std::path::absolute(source) {
                places.walk(&source);
            }
        }
        places
    }

    /// Takes the way that the kernel takes to a file. What is missing ends it: its name may come to be.
    fn walk(&mut self, source: &Path) {
        let mut steps: VecDeque<OsString> = steps(source).collect();
        let (mut folder, mut links) = (PathBuf::from("/"), 0);
        while let Some(step) = steps.pop_front() {
            if step == ".." {
                folder.pop();
                continue;
            }
            let path = folder.join(&step);
            match std::fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() && !steps.is_empty() => {
                    self.folders.entry(folder).or_default();
                    folder = path;
                }
                Ok(meta) if meta.is_symlink() && links < MOST_LINKS => {
                    self.name(&folder, &step);
                    let Ok(target) = std::fs::read_link(&path) else { return };
                    links += 1;
                    if target.is_absolute() {
                        folder = PathBuf::from("/");
                    }
                    let rest = std::mem::take(&mut steps);
                    steps = self::steps(&target).chain(rest).collect();
                }
                found => {
                    self.name(&folder, &step);
                    if found.is_ok_and(|meta| meta.is_file()) {
                        self.files.insert(path);
                    }
                    return;
                }
            }
        }
    }

    fn name(&mut self, folder: &Path, name: &OsStr) {
        self.folders.entry(folder.to_owned()).or_default().insert(name.to_owned());
    }
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// Folders below `root` that have names that matter, as `folder: name name`, then files.
    fn seen(root: &Path, source: &str) -> Vec<String> {
        let places = Places::of(&[root.join(source)]);
        let below = |path: &Path| path.strip_prefix(root).map(|p| p.display().to_string());
        let named = |(folder, names): (&PathBuf, &BTreeSet<OsString>)| {
            let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
            (!names.is_empty()).then(|| format!("{}: {}", below(folder).unwrap(), names.join(" ")))
        };
        let folders = places.folders.iter().filter_map(named);
        folders.chain(places.files.iter().map(|file| below(file).unwrap())).collect()
    }

    #[test]
    fn every_name_on_the_way_counts_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("conf/..a")).unwrap();
        fs::write(root.join("conf/..a/x.yml"), "").unwrap();
        symlink("..a", root.join("conf/..data")).unwrap();
        symlink("..data/x.yml", root.join("conf/x.yml")).unwrap();
        symlink(root.join("conf"), root.join("current")).unwrap();
        let kubernetes = ["conf: ..data x.yml", "conf/..a: x.yml", "conf/..a/x.yml"];
        assert_eq!(seen(root, "conf/x.yml"), kubernetes);
        assert_eq!(seen(root, "conf/../conf/./x.yml"), kubernetes);
        assert_eq!(seen(root, "current/x.yml"), [&[": current"], &kubernetes[..]].concat());
        assert_eq!(seen(root, "conf/gone.yml"), ["conf: gone.yml"]);
        assert_eq!(seen(root, "gone/x.yml"), [": gone"]);
    }

    #[test]
    fn parents_are_watched_for_their_own_end_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().canonicalize().unwrap();
        let places = Places::of(&[root.join("x.yml")]);
        let mut parents: Vec<_> = root.ancestors().map(Path::to_owned).collect();
        parents.reverse();
        assert_eq!(places.folders.keys().cloned().collect::<Vec<_>>(), parents);
        assert!(parents[..parents.len() - 1].iter().all(|parent| places.folders[parent].is_empty()));
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(seen(root, "a"), [": a b"]);
    }
}
