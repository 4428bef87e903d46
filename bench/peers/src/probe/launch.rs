//! A program's whole life: from before it is started to after it has ended, and its peak memory.

use crate::{Result, median};
use serde_json::{Value, json};
use std::mem::zeroed;
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) fn times(times: usize, program: &str, arguments: &[&str]) -> Result<Value> {
    let (mut taken, mut peak) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let child = command.spawn()?;
        let mut status = 0;
        // SAFETY: a plain struct of integers.
        let mut usage: libc::rusage = unsafe { zeroed() };
        // SAFETY: the child is ours, and is waited for here alone.
        let ended = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
        taken.push(start.elapsed().as_secs_f64() * 1e3);
        if ended < 0 || status != 0 {
            return Err(format!("{program} failed: status {status}").into());
        }
        // In KiB on Linux.
        peak.push(usage.ru_maxrss as f64 * 1024.0);
    }
    Ok(json!({ "median_ms": median(taken), "peak_bytes": median(peak) }))
}
