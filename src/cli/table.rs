//! What commands print: lines, and columns that line up.

use std::io::{self, Write as _};

/// Prints a line. A reader that has closed the pipe (`| head`) has seen enough.
pub(super) fn print(line: &str) {
    let _reader_may_be_gone = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line for people, beside the output.
pub(super) fn complain(line: &str) {
    let _reader_may_be_gone = writeln!(io::stderr().lock(), "{line}");
}

/// Rows of equal length in columns as wide as their widest cell; the last column runs free.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter().filter_map(|it| it.get(at)).map(|it| it.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb", "c"], ["aaa", "b", ""]].map(|it| it.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a    bb  c\naaa  b");
    }
}
