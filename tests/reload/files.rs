//! How a file is written: as deploy tools, editors and the kubelet do it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Another file is moved over it.
    Rename,
    InPlace,
    /// A link into a folder that a link swaps.
    Kubelet,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Rename, Self::InPlace, Self::Kubelet];
}

/// The configuration file of a proxy, and what it is made of.
pub struct ConfigFile {
    path: PathBuf,
    written: usize,
}

impl ConfigFile {
    pub fn at(path: PathBuf) -> Self {
        Self { path, written: 0 }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn write(&mut self, text: &str, way: Way) {
        self.written += 1;
        match way {
            Way::Rename => {
                let new = self.path.with_extension("new");
                fs::write(&new, text).unwrap();
                fs::rename(new, &self.path).unwrap();
            }
            Way::InPlace => fs::write(&self.path, text).unwrap(),
            Way::Kubelet => self.swap(text),
        }
    }

    pub fn remove(&self) {
        fs::remove_file(&self.path).unwrap();
    }

    fn swap(&self, text: &str) {
        let (mount, name) = (self.path.parent().unwrap(), self.path.file_name().unwrap());
        let folder = format!("..2026_01_01_{}", self.written);
        fs::create_dir(mount.join(&folder)).unwrap();
        fs::write(mount.join(&folder).join(name), text).unwrap();
        let old = fs::read_link(mount.join("..data"));
        symlink(&folder, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        if !self.path.is_symlink() {
            symlink(Path::new("..data").join(name), mount.join("..link_tmp")).unwrap();
            fs::rename(mount.join("..link_tmp"), &self.path).unwrap();
        }
        if let Ok(old) = old {
            fs::remove_dir_all(mount.join(old)).unwrap();
        }
    }
}
