//! What the kernel knows of this process and its threads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What one thread has had of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ThreadTimes {
    /// Seconds on a CPU.
    pub cpu: f64,
    /// Seconds in which it could have run and had no CPU.
    pub wait: f64,
}

impl ThreadTimes {
    /// Of a thread of this process; `None`: it has ended, or this kernel does not say.
    pub fn of(thread: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut nanoseconds = text.split_whitespace().map(|number| number.parse().ok().map(Duration::from_nanos));
        let (cpu, wait) = (nanoseconds.next()??, nanoseconds.next()??);
        Some(Self { cpu: cpu.as_secs_f64(), wait: wait.as_secs_f64() })
    }
}

/// What the whole process has and takes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessNumbers {
    /// Of all threads, in seconds.
    pub cpu: f64,
    /// Bytes.
    pub resident: u64,
    pub virtual_memory: u64,
    pub threads: u64,
    pub open_fds: u64,
    /// `None`: no limit.
    pub max_fds: Option<u64>,
}

impl ProcessNumbers {
    pub fn read() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |key| field(&status, key).map_or(0, |number| number << 10);
        Self {
            cpu: time.tv_sec as f64 + time.tv_nsec as f64 / 1e9,
            resident: kilobytes("VmRSS:"),
            virtual_memory: kilobytes("VmSize:"),
            threads: field(&status, "Threads:").unwrap_or(0),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// A number of `/proc/self/status`.
fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_fds() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is their number; before that they must be counted, which takes long if there are many.
    match fs::metadata(FOLDER).map_or(0, |folder| folder.size()) {
        // The folder itself is open while it is read.
        0 => fs::read_dir(FOLDER).map_or(0, |files| files.count().saturating_sub(1) as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_this_process_are_plausible() {
        let (before, file) = (ProcessNumbers::read(), fs::File::open("/proc/self/exe").unwrap());
        while ProcessNumbers::read().cpu < before.cpu + 0.001 {}
        let after = ProcessNumbers::read();
        assert!(after.resident > 1 << 20 && after.resident < after.virtual_memory, "{after:?}");
        assert!(after.threads >= 1 && after.open_fds >= 4, "{after:?}");
        assert!(after.max_fds.is_none_or(|max| after.open_fds <= max), "{after:?}");
        drop(file);
    }

    #[test]
    fn the_times_of_a_thread() {
        let times = ThreadTimes::parse("1500000000 250000000 42\n").unwrap();
        assert_eq!(times, ThreadTimes { cpu: 1.5, wait: 0.25 });
        assert_eq!(ThreadTimes::parse("1\n"), None);
        assert!(ThreadTimes::of(rustix::thread::gettid().as_raw_pid()).is_some());
        assert_eq!(ThreadTimes::of(i32::MAX), None);
    }
}
