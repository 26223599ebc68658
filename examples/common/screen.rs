//! Lines on stdout, and below them a footer that is drawn in place where stdout is a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::sync::{Mutex, PoisonError};

/// The lines at the bottom of the screen that the next output draws anew.
static FOOTER: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether a footer can be drawn in place.
pub fn live() -> bool {
    stdout().is_terminal()
}

/// Prints a line above the footer. A reader who left is no error.
pub fn print(line: impl Display) {
    let footer = FOOTER.lock().unwrap_or_else(PoisonError::into_inner);
    draw(footer.len(), &format!("{line}\n"), &footer);
}

/// Replaces the footer; where stdout is no terminal, prints it as plain lines.
pub fn footer(lines: Vec<String>) {
    let mut footer = FOOTER.lock().unwrap_or_else(PoisonError::into_inner);
    if live() {
        draw(footer.len(), "", &lines);
        *footer = lines;
    } else {
        draw(0, "", &lines);
    }
}

fn draw(erase: usize, text: &str, footer: &[String]) {
    // Up over the old footer, and clear to the end of the screen.
    let start = if erase > 0 { format!("\x1b[{erase}A\x1b[J") } else { String::new() };
    let footer: String = footer.iter().map(|line| format!("{line}\n")).collect();
    let mut out = stdout().lock();
    let _ = write!(out, "{start}{text}{footer}").and_then(|()| out.flush());
}
