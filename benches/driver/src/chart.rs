//! The charts of the page, as SVG. Decides nothing; what was not measured is not drawn.

use anyhow::Result;
use plotters::prelude::*;

use crate::measurement::Measurement;
use crate::report::Report;
use crate::statistics::Interval;

const WIDTH: u32 = 1_000;
const BLUE: RGBColor = RGBColor(38, 98, 168);
const RED: RGBColor = RGBColor(190, 30, 30);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// One for each way of delivery, that can be told apart on white.
const COLORS: [RGBColor; 7] = [
    RGBColor(190, 30, 30),
    RGBColor(23, 107, 44),
    RGBColor(38, 98, 168),
    RGBColor(128, 60, 150),
    RGBColor(200, 110, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 130, 140),
];

/// A bar: what, the ratio, the budget.
type Bar<'r> = (String, Interval, Option<f64>, &'r Measurement);

/// What a packet costs.
///
/// # Errors
/// When it cannot be drawn; so for all.
pub fn programs(report: &Report) -> Result<Option<String>> {
    let chosen = bars(
        report,
        |one| one.name.starts_with("program."),
        |one| one.what.clone(),
    );
    drawn(&chosen, "empty programs", Shape::Bars)
}

/// What parsing costs.
///
/// # Errors
/// See above.
pub fn parsers(report: &Report) -> Result<Option<String>> {
    let chosen = bars(
        report,
        |one| one.name.starts_with("parser.") && one.name.ends_with(".tls_parser"),
        |one| one.what.clone(),
    );
    drawn(&chosen, "times tls-parser", Shape::Bars)
}

/// What observers cost.
///
/// # Errors
/// See above.
pub fn observers(report: &Report) -> Result<Option<String>> {
    let chosen = bars(
        report,
        |one| one.name.starts_with("handshakes."),
        |one| {
            one.what
                .replace("processor time of a handshake, both ends", "processor")
        },
    );
    drawn(&chosen, "times a handshake without", Shape::Points)
}

fn bars<'r>(
    report: &'r Report,
    chosen: impl Fn(&Measurement) -> bool,
    label: impl Fn(&Measurement) -> String,
) -> Vec<Bar<'r>> {
    let chosen = report.measurements.iter().filter(|one| chosen(one));
    chosen
        .map(|one| {
            let budget = report
                .budgets
                .iter()
                .find(|judged| judged.budget.of == one.name);
            let bound = budget.and_then(|judged| judged.budget.at_most.or(judged.budget.at_least));
            (label(one), one.ratio, bound, one)
        })
        .collect()
}

/// How a ratio is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// From nothing to the median.
    Bars,
    /// At the median, beside 1: what matters is how far from that.
    Points,
}

/// Ratios, one below the other, with their intervals and budgets.
fn drawn(bars: &[Bar<'_>], unit: &str, shape: Shape) -> Result<Option<String>> {
    if bars.is_empty() {
        return Ok(None);
    }
    let floor = match shape {
        Shape::Bars => 0.0,
        Shape::Points => {
            let low = bars.iter().map(|(_, ratio, ..)| ratio.low);
            low.fold(1.0, f64::min) - 0.01
        }
    };
    let ends = bars
        .iter()
        .map(|(_, ratio, budget, _)| ratio.high.max(budget.unwrap_or(0.0)));
    let end = floor + (ends.fold(0.0, f64::max) - floor) * 1.1;
    let rows = bars.len();
    let height = 70 + 34 * rows as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(45)
            .y_label_area_size(380)
            .build_cartesian_2d(floor..end, 0.0..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .y_labels(0)
            .x_desc(unit)
            .label_style(("sans-serif", 14))
            .draw()?;
        let (plot, _) = chart.plotting_area().get_pixel_range();
        for (row, (label, ratio, budget, _)) in bars.iter().enumerate() {
            let middle = rows as f64 - row as f64 - 0.5;
            match shape {
                Shape::Bars => chart.draw_series([Rectangle::new(
                    [(floor, middle - 0.28), (ratio.median, middle + 0.28)],
                    BLUE.mix(0.75).filled(),
                )])?,
                Shape::Points => {
                    let one = vec![(1.0, middle - 0.5), (1.0, middle + 0.5)];
                    chart.draw_series([PathElement::new(one, GREY.stroke_width(1))])?;
                    chart.draw_series([Circle::new((ratio.median, middle), 5, BLUE.filled())])?
                }
            };
            let lines = [
                vec![(ratio.low, middle), (ratio.high, middle)],
                vec![(ratio.low, middle - 0.12), (ratio.low, middle + 0.12)],
                vec![(ratio.high, middle - 0.12), (ratio.high, middle + 0.12)],
            ];
            for line in lines {
                chart.draw_series([PathElement::new(line, BLACK.stroke_width(1))])?;
            }
            if let Some(budget) = budget {
                let mark = vec![(*budget, middle - 0.4), (*budget, middle + 0.4)];
                chart.draw_series([PathElement::new(mark, RED.stroke_width(3))])?;
            }
            let (_, y) = chart.backend_coord(&(floor, middle));
            area.draw(&Text::new(label.clone(), (14, y - 7), ("sans-serif", 14)))?;
            let beside = format!("{:.2}", ratio.median);
            let (x, _) = chart.backend_coord(&(ratio.high, middle));
            let x = (x + 8).min(plot.end - 36);
            area.draw(&Text::new(beside, (x, y - 7), ("sans-serif", 13)))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// How long events take at a rate.
///
/// # Errors
/// See above.
pub fn latencies(report: &Report, rate: u32) -> Result<Option<String>> {
    let rows = report.delivery.iter().flat_map(|all| &all.rows);
    let rows: Vec<_> = rows
        .filter(|row| row.rate == rate && row.bytes == 128)
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let shares = ["p50", "p99", "p99.9", "max"];
    let of = |row: &crate::delivery::Row| {
        [row.p50, row.p99, row.p999, row.max].map(|one| one.median.max(0.01))
    };
    let all: Vec<f64> = rows.iter().flat_map(|row| of(row)).collect();
    let low = all.iter().copied().fold(f64::MAX, f64::min) / 2.0;
    let high = all.iter().copied().fold(0.0, f64::max) * 2.0;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_right(190)
            .x_label_area_size(35)
            .y_label_area_size(70)
            .build_cartesian_2d(-0.2_f64..3.2, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .x_labels(0)
            .y_desc("microseconds")
            .label_style(("sans-serif", 14))
            .draw()?;
        for (place, share) in shares.iter().enumerate() {
            let (x, _) = chart.backend_coord(&(place as f64, low));
            area.draw(&Text::new(*share, (x - 14, 390), ("sans-serif", 15)))?;
        }
        let mut taken: Vec<i32> = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let color = COLORS[number % COLORS.len()];
            let points: Vec<(f64, f64)> = (0..).map(f64::from).zip(of(row)).collect();
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
            chart.draw_series(
                points
                    .iter()
                    .map(|point| Circle::new(*point, 4, color.filled())),
            )?;
            let (x, mut y) = chart.backend_coord(&points[3]);
            // Labels beside one another would not be read.
            while taken.iter().any(|other| (other - y).abs() < 16) {
                y += 4;
            }
            taken.push(y);
            let style = ("sans-serif", 14).into_font().color(&color);
            area.draw(&Text::new(row.way.word(), (x + 40, y - 7), style))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}
