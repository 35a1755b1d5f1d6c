//! Tables: columns as wide as their content, the least important ones left out where it is narrow.

use super::{Line, Paint, Span};

/// Blanks between columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Numbers are aligned at their right.
    right: bool,
    /// The column with the highest rank is left out first; those of rank 0 stay.
    rank: u8,
}

impl Column {
    pub const fn left(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, rank }
    }

    pub const fn right(title: &'static str, rank: u8) -> Self {
        Self { title, right: true, rank }
    }
}

/// A field of a table.
#[derive(Debug, Clone)]
pub struct Cell(Span);

impl Cell {
    pub fn new(text: impl AsRef<str>, paint: Paint) -> Self {
        Self(Span::new(text, paint))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Paint::Plain)
    }
}

impl From<Cell> for Span {
    fn from(cell: Cell) -> Self {
        cell.0
    }
}

/// Rows of cells.
pub struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The titles, then the rows; all within `width` columns, if there is a limit.
    pub fn lines(self, width: Option<usize>) -> Vec<Line> {
        let titles = self.columns.map(|column| Cell::new(column.title, Paint::Faint));
        let widths: [usize; N] =
            std::array::from_fn(|i| self.rows.iter().chain([&titles]).map(|row| row[i].0.width()).max().unwrap_or(0));
        let shown = self.columns_within(width.unwrap_or(usize::MAX), &widths);
        let line = |row: &[Cell; N]| {
            let mut line = Line::new();
            for (place, &i) in shown.iter().enumerate() {
                let (span, missing) = (row[i].0.clone(), widths[i] - row[i].0.width());
                line.pad(if place > 0 { GAP } else { 0 } + if self.columns[i].right { missing } else { 0 });
                line.push(span);
                let last = place + 1 == shown.len();
                line.pad(if self.columns[i].right || last { 0 } else { missing });
            }
            line.cut(width.unwrap_or(usize::MAX))
        };
        [&titles].into_iter().chain(&self.rows).map(line).collect()
    }

    /// Indices of the columns that find room.
    fn columns_within(&self, limit: usize, widths: &[usize; N]) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..N).collect();
        let needed = |shown: &[usize]| shown.iter().map(|&i| widths[i] + GAP).sum::<usize>().saturating_sub(GAP);
        while needed(&shown) > limit {
            // Of equal rank the last one.
            let Some(place) = (0..shown.len()).max_by_key(|&place| self.columns[shown[place]].rank) else { break };
            if self.columns[shown[place]].rank == 0 {
                break;
            }
            shown.remove(place);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<usize>) -> Vec<String> {
        let columns =
            [Column::left("NAME", 0), Column::right("RATE", 1), Column::left("ADDRESS", 2), Column::right("p99", 1)];
        let mut table = Table::new(columns);
        table.row(["one".into(), "12/s".into(), "10.0.0.1:6379".into(), "340 µs".into()]);
        table.row([Cell::new("number-two", Paint::Bad), "1.2k/s".into(), "h:1".into(), "1 ms".into()]);
        table.lines(width).iter().map(Line::to_string).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let expected = [
            "NAME          RATE  ADDRESS           p99",
            "one           12/s  10.0.0.1:6379  340 µs",
            "number-two  1.2k/s  h:1              1 ms",
        ];
        assert_eq!(shown(None), expected);
        assert_eq!(shown(Some(41)), expected);
    }

    #[test]
    fn a_narrow_terminal_gets_the_important_columns() {
        assert_eq!(
            shown(Some(40)),
            ["NAME          RATE     p99", "one           12/s  340 µs", "number-two  1.2k/s    1 ms"]
        );
        assert_eq!(shown(Some(25)), ["NAME          RATE", "one           12/s", "number-two  1.2k/s"]);
        assert_eq!(shown(Some(10)), ["NAME", "one", "number-two"]);
        assert_eq!(shown(Some(6)), ["NAME", "one", "numbe…"]);
    }
}
