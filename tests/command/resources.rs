//! How it stops, and what it takes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::program::{PROGRAM, command, frames, text};

/// `run` over the photographs without end, and its lines.
fn endless() -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let arguments = ["run", text(&frames()), "--loop", "--json", "--phrase", "a cat", "--caption"].map(str::to_owned);
    let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

#[test]
#[cfg(unix)]
fn ctrl_c_finishes_the_frame_and_flushes() {
    let (mut child, mut lines) = endless();
    lines.by_ref().take(3).for_each(|line| drop(line.unwrap()));
    interrupt(&child);
    let sent = Instant::now();
    // Whatever still comes is whole.
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).expect("a whole line");
        assert_eq!(line["type"], "frame");
    }
    let ended = child.wait().unwrap();
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
    assert_eq!(ended.code(), Some(0), "asked to stop, it stopped: {ended:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_long_run_stays_within_150_mb_and_does_not_grow() {
    let (mut child, mut lines) = endless();
    let status = |child: &Child, key: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() * 1024
    };
    let mut after = |count: usize| {
        lines.by_ref().take(count).for_each(|line| drop(line.unwrap()));
        status(&child, "VmRSS")
    };
    let (early, late) = (after(24), after(48));
    let peak = status(&child, "VmHWM");
    interrupt(&child);
    child.wait().unwrap();
    assert!(peak <= 150_000_000, "{peak} bytes");
    assert!(late <= early + 8_000_000, "{early} bytes after 24 frames, {late} after 72");
}

#[test]
fn the_program_with_nano_inside_stays_below_40_mb() {
    // Only the release build is shipped.
    if cfg!(debug_assertions) {
        eprintln!("not tested: this is a debug build; run with --release");
        return;
    }
    let bytes = fs::metadata(PROGRAM).unwrap().len();
    assert!(bytes <= 40_000_000, "{bytes} bytes");
}
