//! The few system calls that std does not offer, each wrapped once so that the rest of the bench is safe code.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What every fallible step returns: the text is shown to the person at the terminal, who is the only reader.
pub type Result<T> = std::result::Result<T, String>;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// SIGINT and SIGTERM set a flag from now on; [`check_interrupt`] turns it into an error, so that guards run.
pub fn catch_interrupts() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let handler = note as extern "C" fn(libc::c_int);
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe {
        libc::signal(libc::SIGINT, handler as libc::sighandler_t);
        libc::signal(libc::SIGTERM, handler as libc::sighandler_t);
    }
}

pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

/// Puts the calling thread on `cpus`; an empty list leaves it where it is. Safe between fork and exec.
pub fn pin_current_thread(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: cpu_set_t is plain bits, for which zero is valid; CPU_SET is in bounds by the filter.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize).for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set))
    }
}

/// The CPUs this process may run on.
pub fn usable_cpus() -> Vec<usize> {
    // SAFETY: as above; the kernel writes at most the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Ends the calling process when the thread that forked it dies. Safe between fork and exec.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls without pointers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // The parent may have died before prctl.
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

/// The default slack of 50 µs would be the error of every intended send time.
pub fn precise_timers() {
    // SAFETY: a plain system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Raises the soft limit of open files to the hard one (children inherit it) and returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
    limit.rlim_cur
}

/// CPU time of a whole process, in ns, threads that ended included: what schedstat shows, summed over its threads.
/// A thread that is running right now is counted up to its last scheduler tick, so read it when the process is idle.
pub fn process_cpu_ns(pid: u32) -> Result<u64> {
    const CPUCLOCK_SCHED: libc::clockid_t = 2;
    let clock = (!(pid as libc::clockid_t) << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    check(unsafe { libc::clock_gettime(clock, &mut time) })
        .map_err(|error| format!("CPU clock of pid {pid}: {error}"))?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Level-triggered epoll; each descriptor is known by the index of its client.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the descriptor is new and owned by nobody else.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    pub fn add(&self, socket: &impl AsRawFd, index: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, index, false)
    }

    pub fn want_write(&self, socket: &impl AsRawFd, index: usize, wanted: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, index, wanted)
    }

    fn control(&self, operation: libc::c_int, socket: &impl AsRawFd, index: usize, write: bool) -> io::Result<()> {
        let interest = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: interest as u32, u64: index as u64 };
        // SAFETY: both descriptors are open, and the event is read during the call only.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, socket.as_raw_fd(), &mut event) })
    }

    /// Waits for at most `timeout_ns` and returns how many events there are for [`Epoll::ready`].
    pub fn wait(&mut self, timeout_ns: u64) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: the kernel writes at most `events.len()` events. epoll_wait counts in ms, too coarse for a rate.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len(),
                &timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        match count {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
            count => Ok(count as usize),
        }
    }

    /// The client of the event at `position`, and whether its socket has room again.
    pub fn ready(&self, position: usize) -> (usize, bool) {
        let event = self.events[position];
        (event.u64 as usize, event.events & libc::EPOLLOUT as u32 != 0)
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
