//! `outrigger explain --live`: where a key is now, by the ring that is in force.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::{Client, Failure};
use crate::cli::show::{Line, Output, print};
use crate::pool::Explanation;

/// Prints a block for each key, as it is done by a file.
pub async fn explain(client: &Client, pool: &str, keys: &[String], output: Output) -> Result<(), Failure> {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    for (place, key) in keys.iter().enumerate() {
        let path = format!("/explain?pool={}&key={}", encoded(pool), encoded(key));
        let found: Explanation = client.read(&path).await?;
        let gap = (place > 0).then(Line::new);
        let lines: Vec<Line> = gap.into_iter().chain(found.to_string().lines().map(Line::plain)).collect();
        if print(&lines, output).is_err() {
            break;
        }
    }
    Ok(())
}
