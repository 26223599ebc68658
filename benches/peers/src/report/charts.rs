//! The charts: lines by size, and bars. Drawn by hand on a plain white area, so that nothing lies on top of anything.
//!
//! Colours are those of Okabe and Ito, which colour-blind readers can tell apart; a family of columns shares one, and its
//! members differ by their lines' dashes and their points' shapes.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::data::{Results, Table, is_own};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT: RGBColor = RGBColor(222, 222, 222);
const WIDTH: i32 = 960;

/// How a column looks.
struct Look {
    colour: RGBColor,
    /// Which member of its family it is: solid line and circles, dashes and triangles, dots and squares, long dashes and
    /// rings.
    member: usize,
    width: u32,
}

fn look(column: &str) -> Look {
    let family = [
        ("ginnel", RGBColor(213, 94, 0)),
        ("libzmq", RGBColor(0, 0, 0)),
        ("omq", RGBColor(0, 114, 178)),
        ("rzmq", RGBColor(0, 158, 115)),
        ("zmq.rs", RGBColor(204, 121, 167)),
        ("monocoque", RGBColor(230, 159, 0)),
        ("raw", RGBColor(130, 130, 130)),
    ];
    let colour =
        family.iter().find(|(name, _)| column.starts_with(name)).map_or(RGBColor(86, 180, 233), |found| found.1);
    let member = match column.split_once('-').map(|(_, rest)| rest) {
        None => 0,
        Some("batch" | "uring" | "eager") => 1,
        Some("blocking") => 3,
        Some(_) => 2,
    };
    Look { colour, member, width: if column == "ginnel" { 3 } else { 2 } }
}

/// Draws all charts that the results have data for; returns their files and words.
pub fn draw(results: &Results, directory: &Path) -> Result<Vec<(String, String)>, Box<dyn std::error::Error>> {
    let mut drawn = Vec::new();
    for transport in ["tcp", "ipc", "inproc"] {
        let tables = results.sizes("push-pull", transport);
        if tables.len() > 1 {
            let file = format!("push-pull-{transport}.svg");
            let title = format!("PUSH/PULL over {transport}: messages a second by size");
            lines(&directory.join(&file), &title, &tables)?;
            drawn.push((file, title));
        }
    }
    let bars = [
        (
            "round-trips.svg",
            "REQ/REP, 64 bytes: median round trip",
            "microseconds; less is better",
            ("p50", 1e-3, false),
            [("req-rep", "tcp"), ("req-rep", "ipc"), ("req-rep", "inproc")],
        ),
        (
            "fan-out.svg",
            "PUB/SUB over tcp, 64 bytes: deliveries a second, all subscribers together",
            "deliveries/s; more is better",
            ("rate", 1.0, true),
            [("pub-sub-1", "tcp"), ("pub-sub-8", "tcp"), ("pub-sub-32", "tcp")],
        ),
        (
            "processor-time.svg",
            "PUSH/PULL, 64 bytes: processor time of both sides for one message",
            "microseconds; less is better",
            ("cpu_us", 1.0, false),
            [("push-pull", "tcp"), ("push-pull", "ipc"), ("push-pull", "inproc")],
        ),
    ];
    for (file, title, unit, metric, places) in bars {
        let panels: Vec<Panel> = places
            .iter()
            .filter_map(|(cell, transport)| results.table(cell, transport, 64))
            .map(|table| panel(table, metric))
            .filter(|panel| !panel.rows.is_empty())
            .collect();
        if !panels.is_empty() {
            draw_bars(&directory.join(file), title, unit, &panels)?;
            drawn.push((file.to_owned(), title.to_owned()));
        }
    }
    Ok(drawn)
}

fn area(path: &Path, height: i32) -> Result<Area<'_>, Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

/// Where a text hangs on its point.
#[derive(Clone, Copy)]
enum Hang {
    Left,
    Centre,
    Right,
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, hang: Hang, colour: RGBColor) -> Drawn {
    let side = match hang {
        Hang::Left => HPos::Left,
        Hang::Centre => HPos::Center,
        Hang::Right => HPos::Right,
    };
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn path(area: &Area<'_>, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Drawn {
    area.draw(&PathElement::new(points, colour.stroke_width(width)))?;
    Ok(())
}

/// `13.6 M`, `850 k`, `7.41`.
fn short(value: f64) -> String {
    let three = |value: f64| match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    match value {
        value if value >= 999_500.0 => format!("{} M", three(value / 1e6)),
        value if value >= 9_995.0 => format!("{} k", three(value / 1e3)),
        value => three(value),
    }
}

// ---- lines

/// The part of the picture that the lines are in.
struct Frame {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    /// Logarithms to the base 2 of the sizes, and to the base 10 of the rates.
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn at(&self, size: u64, rate: f64) -> (i32, i32) {
        let share = |(low, high): (f64, f64), value: f64| (value - low) / (high - low);
        let x = share(self.x, (size as f64).log2());
        let y = share(self.y, rate.log10());
        let place = |from: i32, to: i32, share: f64| from + ((to - from) as f64 * share).round() as i32;
        (place(self.left, self.right, x), place(self.bottom, self.top, y))
    }
}

/// A column's points: sizes and rates.
struct Line<'a> {
    column: &'a str,
    points: Vec<(u64, f64)>,
}

fn lines(file: &Path, title: &str, tables: &[&Table]) -> Drawn {
    let lines = lines_of(tables);
    let rates = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(0.0, f64::max));
    let frame = Frame {
        left: 78,
        right: WIDTH - 190,
        top: 74,
        bottom: 520,
        x: ((tables[0].size as f64).log2(), (tables[tables.len() - 1].size as f64).log2()),
        y: ((low * 0.8).log10(), (high * 1.25).log10()),
    };
    let area = area(file, 590)?;
    write(&area, title, (frame.left, 26), 20, Hang::Left, INK)?;
    write(&area, "messages/s, median; both scales logarithmic; more is better", (frame.left, 50), 14, Hang::Left, INK)?;
    grid(&area, &frame, tables, (low * 0.8, high * 1.25))?;
    for line in lines.iter().rev() {
        draw_line(&area, &frame, line)?;
    }
    legend(&area, &frame, &lines)?;
    area.present()?;
    Ok(())
}

/// Best at the smallest size first.
fn lines_of<'a>(tables: &[&'a Table]) -> Vec<Line<'a>> {
    let mut names: Vec<&str> = Vec::new();
    for entry in tables.iter().flat_map(|table| &table.entries) {
        if !names.contains(&entry.column.as_str()) {
            names.push(&entry.column);
        }
    }
    let points = |column: &str| -> Vec<(u64, f64)> {
        tables.iter().filter_map(|table| Some((table.size, table.median(column, "rate")?))).collect()
    };
    let mut lines: Vec<Line<'_>> = names
        .into_iter()
        .map(|column| Line { column, points: points(column) })
        .filter(|line| !line.points.is_empty())
        .collect();
    lines.sort_by(|one, other| other.points[0].1.total_cmp(&one.points[0].1));
    lines
}

fn grid(area: &Area<'_>, frame: &Frame, tables: &[&Table], (low, high): (f64, f64)) -> Drawn {
    for power in 0..10 {
        for digit in [1.0, 2.0, 5.0] {
            let rate = digit * 10_f64.powi(power);
            if rate < low || rate > high {
                continue;
            }
            let (_, y) = frame.at(tables[0].size, rate);
            path(area, vec![(frame.left, y), (frame.right, y)], FAINT, 1)?;
            write(area, &tick(rate), (frame.left - 8, y), 13, Hang::Right, INK)?;
        }
    }
    for table in tables {
        let (x, _) = frame.at(table.size, low);
        path(area, vec![(x, frame.top), (x, frame.bottom)], FAINT, 1)?;
        write(area, &size_tick(table.size), (x, frame.bottom + 18), 13, Hang::Centre, INK)?;
    }
    let middle = (frame.left + frame.right) / 2;
    write(area, "size of a message", (middle, frame.bottom + 44), 14, Hang::Centre, INK)?;
    let (left, right, top, bottom) = (frame.left, frame.right, frame.top, frame.bottom);
    path(area, vec![(left, top), (left, bottom), (right, bottom)], INK, 1)
}

fn tick(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", value / 1e6),
        value if value >= 1e3 => format!("{} k", value / 1e3),
        value => format!("{value}"),
    }
}

fn size_tick(size: u64) -> String {
    match size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}

fn draw_line(area: &Area<'_>, frame: &Frame, line: &Line<'_>) -> Drawn {
    let look = look(line.column);
    let places: Vec<(i32, i32)> = line.points.iter().map(|(size, rate)| frame.at(*size, *rate)).collect();
    for pair in places.windows(2) {
        stroke(area, pair[0], pair[1], &look)?;
    }
    places.iter().try_for_each(|place| point(area, *place, &look))
}

fn stroke(area: &Area<'_>, from: (i32, i32), to: (i32, i32), look: &Look) -> Drawn {
    let (on, off) = match look.member {
        0 => return path(area, vec![from, to], look.colour, look.width),
        1 => (8.0, 5.0),
        2 => (2.0, 4.0),
        _ => (18.0, 6.0),
    };
    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
    let length = dx.hypot(dy);
    let place = |along: f64| {
        let share = (along / length).min(1.0);
        (from.0 + (dx * share).round() as i32, from.1 + (dy * share).round() as i32)
    };
    let mut along = 0.0;
    while along < length {
        path(area, vec![place(along), place(along + on)], look.colour, look.width)?;
        along += on + off;
    }
    Ok(())
}

fn point(area: &Area<'_>, at: (i32, i32), look: &Look) -> Drawn {
    let filled = look.colour.filled();
    match look.member {
        0 => area.draw(&Circle::new(at, 4, filled))?,
        1 => area.draw(&TriangleMarker::new(at, 6, filled))?,
        2 => area.draw(&Rectangle::new([(at.0 - 4, at.1 - 4), (at.0 + 4, at.1 + 4)], filled))?,
        _ => {
            area.draw(&Circle::new(at, 5, filled))?;
            area.draw(&Circle::new(at, 2, WHITE.filled()))?;
        }
    }
    Ok(())
}

fn legend(area: &Area<'_>, frame: &Frame, lines: &[Line<'_>]) -> Drawn {
    let left = frame.right + 24;
    for (at, line) in lines.iter().enumerate() {
        let y = frame.top + 12 + 26 * at as i32;
        let look = look(line.column);
        stroke(area, (left, y), (left + 36, y), &look)?;
        point(area, (left + 18, y), &look)?;
        write(area, line.column, (left + 46, y), 15, Hang::Left, INK)?;
    }
    Ok(())
}

// ---- bars

/// Bars under one heading.
struct Panel {
    heading: String,
    rows: Vec<(String, f64)>,
}

fn panel(table: &Table, (field, scale, more): (&str, f64, bool)) -> Panel {
    let mut rows: Vec<(String, f64)> =
        table.entries.iter().filter_map(|entry| Some((entry.column.clone(), entry.median(field)? * scale))).collect();
    rows.sort_by(|one, other| if more { other.1.total_cmp(&one.1) } else { one.1.total_cmp(&other.1) });
    let heading = match table.cell.as_str() {
        cell if cell.starts_with("pub-sub") => table.title.clone(),
        _ => table.transport.clone(),
    };
    Panel { heading, rows }
}

fn draw_bars(file: &Path, title: &str, unit: &str, panels: &[Panel]) -> Drawn {
    const ROW: i32 = 24;
    const HEAD: i32 = 40;
    let height = 70 + panels.iter().map(|panel| HEAD + ROW * panel.rows.len() as i32).sum::<i32>() + 16;
    let area = area(file, height)?;
    write(&area, title, (24, 26), 20, Hang::Left, INK)?;
    write(&area, &format!("{unit}; median"), (24, 50), 14, Hang::Left, INK)?;
    let (left, right) = (190, WIDTH - 100);
    let mut top = 70;
    for panel in panels {
        write(&area, &panel.heading, (24, top + HEAD / 2 + 4), 16, Hang::Left, INK)?;
        top += HEAD;
        let most = panel.rows.iter().map(|row| row.1).fold(0.0, f64::max);
        path(&area, vec![(left, top - 4), (left, top + ROW * panel.rows.len() as i32)], INK, 1)?;
        for (column, value) in &panel.rows {
            let end = left + (f64::from(right - left) * value / most).round().max(1.0) as i32;
            let bar = Rectangle::new([(left + 1, top), (end, top + ROW - 7)], look(column).colour.filled());
            area.draw(&bar)?;
            let middle = top + (ROW - 7) / 2;
            let name = if is_own(column) { format!("▸ {column}") } else { column.clone() };
            write(&area, &name, (left - 10, middle), 15, Hang::Right, INK)?;
            write(&area, &short(*value), (end + 8, middle), 14, Hang::Left, INK)?;
            top += ROW;
        }
    }
    area.present()?;
    Ok(())
}
