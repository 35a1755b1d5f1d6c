//! Medians, and ratios taken round by round: both contenders of a ratio met the machine in the same mood.

/// The middle of a set of ratios and the quartiles around it, which are the noise to read it with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// `None` without a single usable pair.
    pub fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        Some(Self { median: quantile(&ratios, 0.5)?, low: quantile(&ratios, 0.25)?, high: quantile(&ratios, 0.75)? })
    }
}

pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Linear between the two nearest values.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        let spread = Spread::of_ratios(&[1.0, 20.0, 300.0], &[2.0, 20.0, 200.0]);
        assert_eq!(spread, Some(Spread { median: 1.0, low: 0.75, high: 1.25 }));
    }

    #[test]
    fn a_zero_is_no_ratio() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
