//! Rows of results: medians, verdicts, the table and the JSON file.

use crate::json::Json;

/// Within this of the rival's figure is a tie, and a tie is good enough.
const TIE: f64 = 1.05;
/// How much more than the floor an AES-GCM row may cost.
const MOST_OVER_FLOOR: f64 = 1.5;

/// One transfer of the full size and the same with 1 KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU seconds of the process under test in the full transfer.
    pub(crate) full: f64,
    /// The same with 1 KiB.
    pub(crate) small: f64,
    /// CPU seconds per GiB: the difference over the size.
    pub(crate) per_gib: f64,
    /// 10^6 bytes per second of wall-clock time, without what the small transfer took.
    pub(crate) rate: f64,
}

/// The runs of one program in one row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<Run>);

impl Series {
    pub(crate) fn per_gib(&self) -> f64 {
        median(self.0.iter().map(|run| run.per_gib))
    }

    pub(crate) fn rate(&self) -> f64 {
        median(self.0.iter().map(|run| run.rate))
    }

    fn json(&self) -> Json {
        let run = |run: &Run| {
            Json::Object(vec![
                ("cpu_seconds", Json::Number(run.full)),
                ("cpu_seconds_1_kib", Json::Number(run.small)),
                ("cpu_seconds_per_gib", Json::Number(run.per_gib)),
                ("mb_per_second", Json::Number(run.rate)),
            ])
        };
        Json::Object(vec![
            ("cpu_seconds_per_gib", Json::Number(self.per_gib())),
            ("mb_per_second", Json::Number(self.rate())),
            ("runs", Json::List(self.0.iter().map(run).collect())),
        ])
    }
}

/// NaN when there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) adapter: &'static str,
    /// Who it is compared with: OpenSSH or russh.
    pub(crate) rival: &'static str,
    pub(crate) cipher: &'static str,
    /// Whether the bar over the floor holds for it.
    pub(crate) near_floor: bool,
    pub(crate) ours: Series,
    pub(crate) theirs: Series,
    pub(crate) floor: Series,
}

impl Row {
    pub(crate) fn over_theirs(&self) -> f64 {
        self.ours.per_gib() / self.theirs.per_gib()
    }

    pub(crate) fn over_floor(&self) -> f64 {
        self.ours.per_gib() / self.floor.per_gib()
    }

    /// The bars that the row misses. A figure that is not a number misses all.
    pub(crate) fn missed(&self) -> Vec<String> {
        let within = |ratio: f64, most: f64| ratio.is_finite() && ratio <= most;
        let mut missed = Vec::new();
        if !within(self.over_theirs(), TIE) {
            missed.push(format!("more than {}", self.rival));
        }
        if self.near_floor && !within(self.over_floor(), MOST_OVER_FLOOR) {
            missed.push(format!("more than {MOST_OVER_FLOOR} x the floor"));
        }
        missed
    }

    fn verdict(&self) -> String {
        match (self.missed().as_slice(), self.over_theirs()) {
            ([], ratio) if ratio >= 1.0 / TIE => "ok (tie)".into(),
            ([], _) => "ok".into(),
            (missed, _) => format!("MISSED: {}", missed.join(", ")),
        }
    }

    pub(crate) fn json(&self) -> Json {
        let (over, theirs) = match self.rival {
            "russh" => ("ours_over_russh", "russh"),
            _ => ("ours_over_openssh", "openssh"),
        };
        Json::Object(vec![
            ("row", Json::text(self.name)),
            ("adapter", Json::text(self.adapter)),
            ("cipher", Json::text(self.cipher)),
            (over, Json::Number(self.over_theirs())),
            ("ours_over_floor", Json::Number(self.over_floor())),
            (
                "missed",
                Json::List(self.missed().into_iter().map(Json::text).collect()),
            ),
            ("ours", self.ours.json()),
            (theirs, self.theirs.json()),
            ("floor", self.floor.json()),
        ])
    }
}

/// The table, with one line per row.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<16} {:<8} {:<10} | {:>7} {:>7} {:>7} | {:>7} {:>7} | {:>7} {:>7} {:>7} | rival, verdict\n{:<36} | {:^23} | {:^15} | {:^23} |\n",
        "row",
        "adapter",
        "cipher",
        "ours",
        "rival",
        "floor",
        "/rival",
        "/floor",
        "ours",
        "rival",
        "floor",
        "",
        "CPU s/GiB",
        "ratio",
        "MB/s"
    );
    for row in rows {
        let cipher = row
            .cipher
            .split('@')
            .next()
            .unwrap_or_default()
            .trim_end_matches("-poly1305");
        text += &format!(
            "{:<16} {:<8} {:<10} | {:>7.3} {:>7.3} {:>7.3} | {:>7.2} {:>7.2} | {:>7.0} {:>7.0} {:>7.0} | {}, {}\n",
            row.name,
            row.adapter,
            cipher,
            row.ours.per_gib(),
            row.theirs.per_gib(),
            row.floor.per_gib(),
            row.over_theirs(),
            row.over_floor(),
            row.ours.rate(),
            row.theirs.rate(),
            row.floor.rate(),
            row.rival,
            row.verdict()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: &[f64]) -> Series {
        let run = |&per_gib: &f64| Run {
            full: per_gib,
            small: 0.0,
            per_gib,
            rate: 1.0,
        };
        Series(figures.iter().map(run).collect())
    }

    fn row(ours: &[f64], theirs: f64, floor: f64) -> Row {
        Row {
            name: "client upload",
            adapter: "blocking",
            rival: "OpenSSH",
            cipher: "aes128-gcm@openssh.com",
            near_floor: true,
            ours: series(ours),
            theirs: series(&[theirs]),
            floor: series(&[floor]),
        }
    }

    #[test]
    fn medians_ignore_what_is_far_off() {
        assert!((series(&[9.0, 1.0, 2.0]).per_gib() - 2.0).abs() < 1e-9);
        assert!((series(&[9.0, 1.0, 2.0, 4.0]).per_gib() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_tie_passes_and_more_is_missed() {
        assert_eq!(
            row(&[0.52, 9.0, 0.1], 0.5, 0.4).missed(),
            Vec::<String>::new()
        );
        assert_eq!(row(&[0.53], 0.5, 0.4).missed(), ["more than OpenSSH"]);
        assert_eq!(
            row(&[0.49], 0.5, 0.3).missed(),
            ["more than 1.5 x the floor"]
        );
        assert_eq!(
            Row {
                near_floor: false,
                ..row(&[0.49], 0.5, 0.3)
            }
            .missed(),
            Vec::<String>::new()
        );
        assert_eq!(row(&[], 0.5, 0.4).missed().len(), 2);
    }
}
