//! What people see: text on stdout, progress on stderr, quantities in readable units.

use crate::failure::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// Writes text to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Input(format!("cannot write to stdout: {e}")),
    })
}

/// A spinner with the stage at hand; drawn on stderr where that is a terminal, and gone at the end.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts with a stage.
    pub(crate) fn start(stage: impl Into<String>) -> Progress {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(stage.into());
        bar.enable_steady_tick(Duration::from_millis(80));
        Progress(bar)
    }

    /// The next stage.
    pub(crate) fn stage(&self, stage: impl Into<String>) {
        self.0.set_message(stage.into());
    }

    /// Does something that writes to the terminal, the spinner being hidden meanwhile.
    pub(crate) fn clear_for<T>(&self, f: impl FnOnce() -> T) -> T {
        self.0.suspend(f)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} {}", UNITS[0]) } else { format!("{} {}", significant(value), UNITS[unit]) }
}

/// `4.1 G`, of something that is counted.
pub(crate) fn count(n: f64) -> String {
    let scales = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    match scales.iter().find(|(s, _)| n >= *s) {
        Some((s, unit)) => format!("{}{unit}", significant(n / s)),
        None => format!("{n}"),
    }
}

/// `12.3 ms`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{} s", significant(seconds))
    } else if seconds >= 1e-3 {
        format!("{} ms", significant(seconds * 1e3))
    } else {
        format!("{} us", significant(seconds * 1e6))
    }
}

/// Three digits, or all of those before the point.
pub(crate) fn significant(v: f64) -> String {
    let decimals = if v.abs() < 10.0 { 2 } else { (v.abs() < 100.0) as usize };
    format!("{v:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits() {
        assert_eq!(
            (bytes(7), bytes(1536), bytes(5 << 30)),
            ("7 bytes".into(), "1.50 KiB".into(), "5.00 GiB".into())
        );
        assert_eq!(
            (duration(0.0123), duration(2.0), duration(4e-6)),
            ("12.3 ms".into(), "2.00 s".into(), "4.00 us".into())
        );
        assert_eq!((count(4.1e9), count(12.0)), ("4.10 G".into(), "12".into()));
    }
}
