//! The charts of the page, as SVG. Decides nothing; what was not measured is not drawn.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::delivery::{Rate, Row, Way};
use crate::growth::Growth;
use crate::measurement::Measurement;
use crate::report::Report;
use crate::statistics::Interval;

const WIDTH: u32 = 1_000;
const BLUE: RGBColor = RGBColor(38, 98, 168);
const RED: RGBColor = RGBColor(190, 30, 30);
const GREY: RGBColor = RGBColor(110, 110, 110);

/// One for each way of delivery, that can be told apart on white.
const COLORS: [RGBColor; 8] = [
    RGBColor(190, 30, 30),
    RGBColor(23, 107, 44),
    RGBColor(38, 98, 168),
    RGBColor(128, 60, 150),
    RGBColor(200, 110, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 130, 140),
    RGBColor(120, 80, 40),
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

/// What observers cost those who do one kind of work: `handshakes`, or `bulk`.
///
/// # Errors
/// See above.
pub fn observers(report: &Report, work: &str) -> Result<Option<String>> {
    let names = [format!("{work}.time."), format!("{work}.processor.")];
    let chosen = bars(
        report,
        |one| names.iter().any(|name| one.name.starts_with(name)),
        |one| {
            // The heading says of what.
            let (figure, observer) = one.what.split_once(", with ").unwrap_or((&one.what, ""));
            let figure = figure
                .split_once(" of ")
                .map_or(figure, |(figure, _)| figure);
            format!("{figure}, with {observer}")
        },
    );
    drawn(&chosen, "times as much as without", Shape::Points)
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
            let lines = folded(label);
            for (line, text) in (0..).zip(&lines) {
                let y = y - 8 * lines.len() as i32 + 16 * line;
                area.draw(&Text::new(*text, (14, y), ("sans-serif", 14)))?;
            }
            let beside = format!("{:.2}", ratio.median);
            let across = |x| chart.backend_coord(&(x, middle)).0;
            let x = clear_of(across(ratio.high) + 8, budget.map(across));
            let x = x.min(plot.end - FIGURE);
            area.draw(&Text::new(beside, (x, y - 7), ("sans-serif", 13)))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// How wide a figure is, pixels.
const FIGURE: i32 = 36;
/// How many characters are left of the bars.
const LABEL: usize = 54;

/// In as many lines as it takes, broken at spaces.
fn folded(label: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = label;
    while let Some((end, _)) = rest.char_indices().nth(LABEL) {
        let Some(space) = rest[..end].rfind(' ') else {
            break;
        };
        lines.push(&rest[..space]);
        rest = &rest[space + 1..];
    }
    lines.push(rest);
    lines
}

/// Where a figure begins that should be at `x`, and no mark run through it.
fn clear_of(x: i32, mark: Option<i32>) -> i32 {
    match mark {
        Some(mark) if (x - 4..=x + FIGURE).contains(&mark) => mark + 6,
        _ => x,
    }
}

/// Labels that should be at these heights, each at least `LINE` from the next, and none below `bottom`. In the
/// order in which they came.
fn apart(wanted: &[i32], bottom: i32) -> Vec<i32> {
    const LINE: i32 = 17;
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| wanted[*at]);
    let mut heights = wanted.to_vec();
    let mut free = i32::MIN;
    for at in &order {
        heights[*at] = heights[*at].max(free);
        free = heights[*at] + LINE;
    }
    let mut free = bottom;
    for at in order.iter().rev() {
        heights[*at] = heights[*at].min(free);
        free = heights[*at] - LINE;
    }
    heights
}

/// How long events take at a rate.
///
/// # Errors
/// See above.
pub fn latencies(report: &Report, rate: Rate) -> Result<Option<String>> {
    let rows = report.delivery.iter().flat_map(|all| &all.rows);
    let rows: Vec<_> = rows
        .filter(|row| row.rate == rate && row.bytes == 128)
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let shares = ["p50", "p99", "p99.9", "max"];
    let of = |row: &Row| [row.p50, row.p99, row.p999, row.max].map(|one| one.median.max(0.01));
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
            .y_label_formatter(&|y| microseconds(*y))
            .label_style(("sans-serif", 14))
            .draw()?;
        for (place, share) in shares.iter().enumerate() {
            let (x, _) = chart.backend_coord(&(place as f64, low));
            area.draw(&Text::new(*share, (x - 14, 390), ("sans-serif", 15)))?;
        }
        let (_, plot) = chart.plotting_area().get_pixel_range();
        let ends: Vec<(i32, i32)> = rows
            .iter()
            .map(|row| chart.backend_coord(&(3.0, of(row)[3])))
            .collect();
        let heights: Vec<i32> = ends.iter().map(|(_, y)| *y).collect();
        let heights = apart(&heights, plot.end);
        for (number, row) in rows.iter().enumerate() {
            let color = COLORS[number % COLORS.len()];
            let points: Vec<(f64, f64)> = (0..).map(f64::from).zip(of(row)).collect();
            chart.draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?;
            chart.draw_series(
                points
                    .iter()
                    .map(|point| Circle::new(*point, 4, color.filled())),
            )?;
            let style = ("sans-serif", 14).into_font().color(&color);
            let at = (ends[number].0 + 40, heights[number] - 7);
            area.draw(&Text::new(row.way.word(), at, style))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// How long events take at a rate to a reader that is held back: a line for each condition and way.
///
/// # Errors
/// See above.
pub fn pressed(report: &Report, rate: Rate) -> Result<Option<String>> {
    const ROW: i32 = 24;
    let groups: Vec<(&str, Vec<&Row>)> = report
        .pressed
        .iter()
        .flat_map(|pressed| &pressed.under)
        .map(|under| {
            let rows = under.rows.iter().filter(|row| row.rate == rate);
            (under.condition.what(), rows.collect())
        })
        .collect();
    let of = |row: &Row| [row.p50, row.p99, row.max].map(|one| one.median.max(0.01));
    let all = || groups.iter().flat_map(|(_, rows)| rows);
    let lines = all().count() + groups.len();
    let low = all().map(|row| of(row)[0]).fold(f64::MAX, f64::min) / 1.5;
    let high = all().map(|row| of(row)[2]).fold(0.0, f64::max) * 1.5;
    if all().count() == 0 {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let height = 70 + ROW as u32 * lines as u32;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .margin_right(190)
            .x_label_area_size(45)
            .y_label_area_size(170)
            .build_cartesian_2d((low..high).log_scale(), 0.0..lines as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GREY.mix(0.25))
            .y_labels(0)
            .x_label_formatter(&|x| microseconds(*x))
            .label_style(("sans-serif", 14))
            .draw()?;
        let (plot, _) = chart.plotting_area().get_pixel_range();
        let mut line = lines as f64 - 0.5;
        for (condition, rows) in &groups {
            let (_, y) = chart.backend_coord(&(low, line));
            let bold = ("sans-serif", 14).into_font().style(FontStyle::Bold);
            area.draw(&Text::new(*condition, (14, y - 7), bold))?;
            line -= 1.0;
            for row in rows {
                let [p50, p99, max] = of(row);
                let at = Way::ALL.iter().position(|way| *way == row.way);
                let color = COLORS[at.unwrap_or(0) % COLORS.len()];
                let whole = vec![(p50, line), (max, line)];
                chart.draw_series([PathElement::new(whole, color.mix(0.4).stroke_width(2))])?;
                let core = vec![(p50, line), (p99, line)];
                chart.draw_series([PathElement::new(core, color.stroke_width(3))])?;
                chart.draw_series([Circle::new((p50, line), 5, color.filled())])?;
                chart.draw_series([Circle::new((p99, line), 5, WHITE.filled())])?;
                chart.draw_series([Circle::new((p99, line), 5, color.stroke_width(2))])?;
                let tick = vec![(max, line - 0.3), (max, line + 0.3)];
                chart.draw_series([PathElement::new(tick, color.stroke_width(2))])?;
                let (_, y) = chart.backend_coord(&(low, line));
                let style = ("sans-serif", 14).into_font().color(&color);
                area.draw(&Text::new(row.way.word(), (30, y - 7), style))?;
                let share = 100.0 * row.delivered as f64 / row.offered.max(1) as f64;
                let told = if row.lost == 0 {
                    "all delivered".into()
                } else {
                    format!("{share:.1} % delivered")
                };
                area.draw(&Text::new(told, (plot.end + 10, y - 7), ("sans-serif", 13)))?;
                line -= 1.0;
            }
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// Short, with the unit that suits.
fn microseconds(value: f64) -> String {
    match value {
        1e6.. => format!("{} s", value / 1e6),
        1e3.. => format!("{} ms", value / 1e3),
        _ => format!("{value} us"),
    }
}

/// How costs grow with one thing.
///
/// # Errors
/// See above.
pub fn growth(growth: &Growth) -> Result<Option<String>> {
    const HEIGHT: u32 = 360;
    let Some(first) = growth.curves.first() else {
        return Ok(None);
    };
    let all = growth.curves.iter().flat_map(|curve| &curve.points);
    let low = all.clone().map(|point| point.ratio.low);
    let low = low.fold(1.0, f64::min);
    let high = all.map(|point| point.ratio.high).fold(1.0, f64::max);
    let places = first.points.len();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&area);
        builder
            .margin(10)
            .margin_right(360)
            .x_label_area_size(50)
            .y_label_area_size(70);
        let across = -0.3..places as f64 - 0.7;
        // Curves that are far apart would each be a straight line at the edge.
        if high / low > 4.0 {
            let mut chart = builder
                .build_cartesian_2d(across, (low.max(0.01) * 0.8..high * 1.2).log_scale())?;
            curves(&area, &mut chart, growth)?;
        } else {
            let margin = ((high - low) * 0.1).max(0.01);
            let mut chart = builder.build_cartesian_2d(across, low - margin..high + margin)?;
            curves(&area, &mut chart, growth)?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

type Area<'s> = DrawingArea<SVGBackend<'s>, Shift>;

fn curves<'s, Y>(
    area: &Area<'s>,
    chart: &mut ChartContext<'_, SVGBackend<'s>, Cartesian2d<RangedCoordf64, Y>>,
    growth: &Growth,
) -> Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .x_labels(0)
        .y_labels(5)
        .y_desc(growth.against)
        .x_desc(growth.with)
        .label_style(("sans-serif", 14))
        .draw()?;
    let (across, plot) = chart.plotting_area().get_pixel_range();
    let middle = (growth.curves.len() as f64 - 1.0) / 2.0;
    let mut labels = Vec::new();
    for (number, curve) in growth.curves.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        // Beside one another, so that no interval hides another.
        let aside = (number as f64 - middle) * 0.04;
        let places = (0..).map(|place| f64::from(place) + aside);
        let points = || places.clone().zip(&curve.points);
        let medians = points().map(|(x, point)| (x, point.ratio.median));
        chart.draw_series(LineSeries::new(medians.clone(), color.stroke_width(2)))?;
        chart.draw_series(medians.clone().map(|at| Circle::new(at, 4, color.filled())))?;
        for (x, point) in points() {
            let line = vec![(x, point.ratio.low), (x, point.ratio.high)];
            chart.draw_series([PathElement::new(line, color.stroke_width(1))])?;
        }
        if let Some(last) = medians.last() {
            let (_, y) = chart.backend_coord(&last);
            labels.push((y, &curve.what, color));
        }
    }
    for (place, point) in (0..).map(f64::from).zip(&growth.curves[0].points) {
        // Any height will do: only where it is across is wanted.
        let (x, _) = chart.backend_coord(&(place, growth.curves[0].points[0].ratio.median));
        let text = point.at.to_string();
        let half = 4 * text.len() as i32;
        area.draw(&Text::new(
            text,
            (x - half, plot.end + 6),
            ("sans-serif", 14),
        ))?;
    }
    let heights: Vec<i32> = labels.iter().map(|(y, ..)| *y).collect();
    for ((_, what, color), y) in labels.into_iter().zip(apart(&heights, plot.end)) {
        let style = ("sans-serif", 14).into_font().color(&color);
        area.draw(&Text::new(what.clone(), (across.end + 10, y - 7), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_apart_and_on_the_chart_whatever_was_wanted() {
        for wanted in [
            vec![100, 100, 100, 101],
            vec![300, 20, 299, 298, 297],
            vec![-5, 10, 310, 320],
            vec![7],
            vec![],
        ] {
            let heights = apart(&wanted, 300);
            assert!(heights.iter().all(|y| *y <= 300), "{heights:?}");
            let mut sorted = heights.clone();
            sorted.sort_unstable();
            for pair in sorted.windows(2) {
                assert!(pair[1] - pair[0] >= 17, "{heights:?}");
            }
            // What was above another stays there.
            for (one, two) in (0..wanted.len()).zip(1..) {
                if two < wanted.len() && wanted[one] < wanted[two] {
                    assert!(heights[one] < heights[two], "{heights:?}");
                }
            }
        }
        assert_eq!(apart(&[10, 100], 300), [10, 100]);
    }

    #[test]
    fn a_long_label_is_folded_at_a_space_and_loses_nothing() {
        let label = "no packet at all: an entry in a table is found, and the time taken";
        let lines = folded(label);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.chars().count() <= LABEL));
        assert_eq!(lines.join(" "), label);
        assert_eq!(folded("short"), ["short"]);
        assert_eq!(folded(&"x".repeat(80)).len(), 1);
    }

    #[test]
    fn no_mark_runs_through_a_figure() {
        for mark in 0..200 {
            let x = clear_of(100, Some(mark));
            assert!(mark < x || mark > x + FIGURE, "{mark}: {x}");
        }
        assert_eq!(clear_of(100, None), 100);
    }
}
