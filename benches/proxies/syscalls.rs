//! Counts the system calls of a process without slowing it much: one counter per call and thread on the kernel's
//! own tracepoints (perf_event_open). strace would stop the process at each call and so change its batches.
//!
//! The numbers of the tracepoints are in tracefs, which is often not mounted: it is for a moment, on a directory of
//! the bench, and gone again before the first count.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::Result;

/// What is reported: a column, and the system calls in it.
pub const COLUMNS: [(&str, &[&str]); 7] = [
    ("recv", &["read", "readv", "recvfrom", "recvmsg", "recvmmsg"]),
    ("send", &["write", "writev", "sendto", "sendmsg", "sendmmsg"]),
    ("epoll_wait", &["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    ("epoll_ctl", &["epoll_ctl"]),
    ("nanosleep", &["nanosleep", "clock_nanosleep"]),
    ("io_uring", &["io_uring_enter"]),
    ("futex", &["futex"]),
];
/// Every system call there is, the named ones included.
const ANY: &str = "raw_syscalls/sys_enter";

/// The numbers of the tracepoints: per column, then for all calls.
pub struct Tracepoints {
    columns: Vec<Vec<u64>>,
    any: u64,
}

/// Running counters of one process.
pub struct Counters {
    columns: Vec<Vec<File>>,
    any: Vec<File>,
}

/// Calls since the counters were opened: per column, then all.
#[derive(Debug, Clone)]
pub struct Counts {
    pub columns: Vec<u64>,
    pub any: u64,
}

impl Tracepoints {
    pub fn read(directory: &Path) -> Result<Self> {
        if Path::new("/sys/kernel/tracing/events").is_dir() {
            return Self::read_from(Path::new("/sys/kernel/tracing"));
        }
        let place = directory.join("tracefs");
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let target = CString::new(place.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: all strings end in NUL and outlive the call.
        let mounted =
            unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), c"tracefs".as_ptr(), 0, std::ptr::null()) };
        if mounted != 0 {
            return Err(format!("--syscalls: mount tracefs: {} (it needs root)", io::Error::last_os_error()));
        }
        let tracepoints = Self::read_from(&place);
        // SAFETY: as above.
        unsafe { libc::umount(target.as_ptr()) };
        tracepoints
    }

    fn read_from(tracefs: &Path) -> Result<Self> {
        let id = |event: &str| {
            let path = tracefs.join("events").join(event).join("id");
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            text.trim().parse::<u64>().map_err(|error| format!("{}: {error}", path.display()))
        };
        // A kernel may lack the newest ones; then nobody calls them.
        let ids =
            |calls: &[&str]| calls.iter().filter_map(|call| id(&format!("syscalls/sys_enter_{call}")).ok()).collect();
        Ok(Self { columns: COLUMNS.iter().map(|(_, calls)| ids(calls)).collect(), any: id(ANY)? })
    }

    /// Counts from now on, for the threads that `pid` has now.
    pub fn count(&self, pid: u32) -> Result<Counters> {
        let path = format!("/proc/{pid}/task");
        let tasks = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let threads: Vec<i32> = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect();
        let open_all = |ids: &[u64]| {
            let pairs = ids.iter().flat_map(|&id| threads.iter().map(move |&thread| (id, thread)));
            pairs.map(|(id, thread)| open_counter(id, thread)).collect::<io::Result<Vec<File>>>()
        };
        let columns = self.columns.iter().map(|ids| open_all(ids)).collect::<io::Result<Vec<_>>>();
        let counters = columns.and_then(|columns| Ok(Counters { columns, any: open_all(&[self.any])? }));
        counters.map_err(|error| format!("--syscalls: perf_event_open: {error} (it needs root or CAP_PERFMON)"))
    }
}

impl Counters {
    pub fn read(&self) -> Result<Counts> {
        let columns = self.columns.iter().map(|files| sum(files)).collect::<io::Result<Vec<_>>>();
        let counts = columns.and_then(|columns| Ok(Counts { columns, any: sum(&self.any)? }));
        counts.map_err(|error| format!("--syscalls: read a counter: {error}"))
    }
}

fn sum(counters: &[File]) -> io::Result<u64> {
    counters
        .iter()
        .map(|mut counter| {
            let mut value = [0; 8];
            counter.read_exact(&mut value)?;
            Ok(u64::from_ne_bytes(value))
        })
        .sum()
}

/// The first version of the kernel's perf_event_attr, which is all a plain counter needs.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

fn open_counter(tracepoint: u64, thread: i32) -> io::Result<File> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const ANY_CPU: i32 = -1;
    const NO_GROUP: i32 = -1;
    let size = size_of::<PerfEventAttr>() as u32;
    let attr = PerfEventAttr { kind: PERF_TYPE_TRACEPOINT, size, config: tracepoint, ..Default::default() };
    // SAFETY: attr is read during the call only; the descriptor is new and owned by nobody else.
    unsafe {
        let fd = libc::syscall(libc::SYS_perf_event_open, &attr, thread, ANY_CPU, NO_GROUP, PERF_FLAG_FD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd as i32)) }
    }
}
