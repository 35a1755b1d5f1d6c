//! Figures as people read them: two or three digits and a unit.

/// `0`, `12`, `1.2k`, `34M`.
pub fn count(n: u64) -> String {
    if n < 1000 { n.to_string() } else { scaled(n as f64, 1000.0, &["", "k", "M", "G", "T"]) }
}

/// Per second: `0/s`, `0.3/s`, `12/s`, `1.2k/s`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0/s".into(),
        little if little < 0.05 => "<0.1/s".into(),
        much => scaled(much, 1000.0, &["", "k", "M", "G", "T"]) + "/s",
    }
}

/// `512 B`, `1.2 KiB`, `256 MiB`.
pub fn bytes(n: f64) -> String {
    let units = [" B", " KiB", " MiB", " GiB", " TiB"];
    if n < 1023.5 { format!("{n:.0} B") } else { scaled(n, 1024.0, &units) }
}

/// `340 µs`, `1.2 ms`, `2.5 s`.
pub fn microseconds(us: f64) -> String {
    match us {
        short if short < 999.5 => format!("{short:.0} µs"),
        long => scaled(long / 1000.0, 1000.0, &[" ms", " s"]),
    }
}

/// Of a share: `0 %`, `<0.01 %`, `0.12 %`, `1.2 %`, `34 %`, `99.9 %`, `100 %`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        none if none <= 0.0 => "0 %".into(),
        trace if trace < 0.005 => "<0.01 %".into(),
        little if little < 0.995 => format!("{little:.2} %"),
        some if some < 9.95 => format!("{some:.1} %"),
        most if most < 98.95 => format!("{most:.0} %"),
        // Nearly all is not all.
        nearly if nearly < 100.0 => format!("{:.1} %", nearly.min(99.9)),
        all => format!("{all:.0} %"),
    }
}

/// How long: `3 s`, `4 min`, `2 h 5 min`, `3 d 4 h`.
pub fn seconds(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |n: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{n} {unit}"),
        rest => format!("{n} {unit} {rest} {small}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..600 => two(minutes, "min", seconds % 60, "s"),
        600..3600 => format!("{minutes} min"),
        3600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// With the first unit in which it has at most three digits before the point; one digit behind it below 10.
fn scaled(mut x: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if x < step - 0.5 {
            break;
        }
        x /= step;
        unit = next;
    }
    if x < 9.95 { format!("{x:.1}{unit}") } else { format!("{x:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        let counts = [0, 999, 1000, 1250, 9_949, 9_960, 999_400, 999_900, 34_000_000].map(count);
        assert_eq!(counts, ["0", "999", "1.0k", "1.2k", "9.9k", "10k", "999k", "1.0M", "34M"]);
        let rates = [0.0, 0.01, 0.31, 9.96, 12.3, 999.6, 1234.0, 5e15].map(rate);
        assert_eq!(rates, ["0/s", "<0.1/s", "0.3/s", "10/s", "12/s", "1.0k/s", "1.2k/s", "5000T/s"]);
        let sizes = [0.0, 1023.0, 1024.0, 1_300_000.0, 268_435_456.0].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.2 MiB", "256 MiB"]);
        let times = [0.0, 340.4, 999.6, 1234.0, 65_536.0, 4_194_304.0].map(microseconds);
        assert_eq!(times, ["0 µs", "340 µs", "1.0 ms", "1.2 ms", "66 ms", "4.2 s"]);
    }

    #[test]
    fn shares_say_none_and_all_only_if_it_is_so() {
        let shares = [0.0, 0.00004, 0.0012, 0.012, 0.0996, 0.5, 0.98, 0.995, 0.999_999, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "<0.01 %", "0.12 %", "1.2 %", "10 %", "50 %", "98 %", "99.5 %", "99.9 %", "100 %"]);
    }

    #[test]
    fn times_have_two_units_at_the_most() {
        let times = [0.4, 59.9, 60.0, 95.0, 700.0, 3600.0, 7500.0, 86_400.0, 275_000.0].map(seconds);
        assert_eq!(times, ["0 s", "59 s", "1 min", "1 min 35 s", "11 min", "1 h", "2 h 5 min", "1 d", "3 d 4 h"]);
    }
}
