//! A run as one HTML page that needs nothing beside it: the verdicts, charts, and every figure as a table.
//! Decides nothing.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};

use crate::budget::Verdict;
use crate::chart;
use crate::delivery::{Rate, Row, rate_word};
use crate::measurement::Measurement;
use crate::progress::Part;
use crate::report::{EMULATED, Judged, NotMeasured, Report, mib, short};
use crate::statistics::Interval;

/// The page.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn page(report: &Report) -> Result<String> {
    let mut page = String::new();
    let mut put = |text: &str| page.push_str(text);
    put(HEAD);
    put(&machine(report));
    if report.machine.is_emulated() {
        put(&format!("<p><strong>{EMULATED}</strong></p>"));
    } else {
        put("<h2>Budgets</h2>");
        put(&budgets(report));
    }
    for (title, said, drawn) in [
        (
            "What a packet costs in the kernel",
            "The shipped program on one packet, in programs that do nothing; BPF_PROG_TEST_RUN, so with warm caches. \
             The bar is the median of all rounds, the line its 95 % interval, the mark the budget.",
            chart::programs(report),
        ),
        (
            "What parsing costs on the host",
            "Our parser's time for a message, in tls-parser's. In the time of reading every byte once: below, among \
             all ratios.",
            chart::parsers(report),
        ),
        (
            "What it costs those who are watched",
            "Handshakes between two network namespaces in paired blocks, in those without an observer. \
             The line is the 95 % interval of the median; what it crosses cannot be told apart.",
            chart::observers(report, "handshakes"),
        ),
        (
            "What it costs a stream of bytes",
            "The same for a connection that sends as much as it can, and is no TLS.",
            chart::observers(report, "bulk"),
        ),
    ] {
        put(&section(title, said, drawn)?);
    }
    for growth in &report.growth {
        put(&section(
            &format!("{}: growth with {}", growth.what, growth.with),
            &format!(
                "In {}; the lines at the points are 95 % intervals of the medians. {}",
                growth.against, growth.about
            ),
            chart::growth(growth),
        )?);
    }
    for rate in rates(report.delivery.iter().flat_map(|all| &all.rows)) {
        put(&section(
            &format!("How long an event takes, {}", a_second(rate)),
            "From the BPF program to the reader: half, 99 of 100, 999 of 1,000 and all events take at most so long. \
             Medians over rounds. Two floors hold one event: of those that come faster than they are read, only the \
             last counts. What interrupts a virtual processor is in these figures; budgets are held against the p99 \
             of the median moment (200 events), which is in the table below, of all rounds. Of a reader that is awake, \
             against a perf event array, only those count in which the machine did not stop the reader's processor alone.",
            chart::latencies(report, rate),
        )?);
    }
    let pressed = || report.pressed.iter().flat_map(|pressed| &pressed.under);
    for rate in rates(pressed().flat_map(|under| &under.rows)) {
        put(&section(
            &format!("To a reader that is held back, {}", a_second(rate)),
            "From p50 (dot) over p99 (ring) to the longest (tick); medians over rounds. Alone: with a processor for \
             itself, in SCHED_OTHER. A busy process never waits, on the same processor. The quota is 20 ms of every \
             100.",
            chart::pressed(report, rate),
        )?);
    }
    put(&deliveries(report));
    put(&memory(report));
    put(&not_measured(report));
    put("<h2>All ratios</h2>");
    put(&measurements(report));
    put(&took(report));
    put("</main>\n");
    Ok(page)
}

fn section(title: &str, said: &str, drawn: Result<Option<String>>) -> Result<String> {
    let drawn = drawn.map_err(|error| anyhow!("{title}: {error:#}"))?;
    Ok(match drawn {
        Some(svg) => format!("<h2>{title}</h2><p>{said}</p><figure>{svg}</figure>"),
        None => String::new(),
    })
}

fn rates<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<Rate> {
    let mut rates: Vec<Rate> = rows.into_iter().map(|row| row.rate).collect();
    rates.sort_by_key(|rate| rate.unwrap_or(u32::MAX));
    rates.dedup();
    rates
}

fn a_second(rate: Rate) -> String {
    match rate {
        None => "as many as can be made".into(),
        Some(rate) => format!("{} a second", thousands(rate)),
    }
}

/// `50,000`.
fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut rows = String::new();
    for (name, value) in [
        (
            "machine",
            format!("{} x {}", machine.processors, machine.processor),
        ),
        ("accelerator", machine.accelerator.clone()),
        ("kernel", format!("Linux {}", machine.kernel)),
        ("load when it began", machine.load.clone()),
        ("commit", machine.commit.clone()),
        ("date", machine.date.clone()),
        (
            "rounds",
            if report.quick { "few (--quick)" } else { "all" }.to_owned(),
        ),
    ] {
        let _infallible = write!(rows, "<tr><th>{name}<td>{}", escaped(&value));
    }
    format!("<table class=machine>{rows}</table>")
}

fn budgets(report: &Report) -> String {
    let mut rows = String::new();
    for Judged {
        budget, verdict, ..
    } in &report.budgets
    {
        let measured = report.measurements.iter().find(|one| one.name == budget.of);
        let (what, against, ratio) = match measured {
            Some(one) => (&*one.what, &*one.against, one.ratio_told(with)),
            None => (&*budget.of, "", String::new()),
        };
        let why = match &budget.missed {
            Some(missed) => format!("{}. Missed because {}", budget.reason, missed.reason),
            None => budget.reason.clone(),
        };
        let left_out = measured.and_then(Measurement::left_out_told);
        let why = match left_out {
            Some(left_out) => format!("{why}. {left_out}"),
            None => why,
        };
        let _infallible = write!(
            rows,
            "<tr class={}><td>{}<td>{}<td class=n>{ratio}<td class=n>{}<td>{}<td>{}",
            match verdict {
                Verdict::Met => "met",
                Verdict::Missed => "missed",
                Verdict::KnownMissed | Verdict::Inconclusive | Verdict::NotMeasured => "open",
            },
            escaped(what),
            escaped(against),
            escaped(&budget.bound()),
            verdict.word(),
            escaped(&why),
        );
    }
    format!(
        "<div class=wide><table><tr><th>what<th>against<th class=n>measured<th class=n>budget<th>verdict<th>why this \
             much{rows}</table></div>"
    )
}

fn deliveries(report: &Report) -> String {
    let Some(delivery) = &report.delivery else {
        return String::new();
    };
    let head = format!(
        "A reader with a processor for itself, {}",
        delivery.class.word()
    );
    let mut tables = delivered(&head, &delivery.rows);
    for under in report.pressed.iter().flat_map(|pressed| &pressed.under) {
        tables.push_str(&delivered(
            &format!("A reader {}", under.condition),
            &under.rows,
        ));
    }
    format!(
        "<h2>Delivery, in figures</h2><p>Times in microseconds: medians over rounds, of the first three with their \
         95 % intervals. Offered is delivered and lost, but for the two floors that hold one event.</p>{tables}"
    )
}

fn delivered(head: &str, rows: &[Row]) -> String {
    let mut lines = String::new();
    for row in rows {
        let _infallible = write!(
            lines,
            "<tr><td class=way>{}<td class=n>{}<td class=n>{}<td class=n>{:.0}<td class=n>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{:.0} %",
            row.way.word(),
            row.bytes,
            rate_word(row.rate),
            row.made,
            row.offered,
            row.delivered,
            row.lost,
            with(row.p50),
            with(row.moment),
            with(row.p99),
            short(row.p999.median),
            short(row.max.median),
            row.processor.median * 100.0,
        );
    }
    format!(
        "<h3>{head}</h3><details><summary>{} rows</summary><div class=wide><table><tr><th>way<th class=n>bytes\
         <th class=n>wanted/s<th class=n>made/s<th class=n>offered<th class=n>delivered<th class=n>lost<th class=n>p50\
         <th class=n>p99 of a moment<th class=n>p99<th class=n>p99.9<th class=n>max<th class=n>of a processor{lines}</table></div></details>",
        rows.len()
    )
}

fn memory(report: &Report) -> String {
    let Some(memory) = &report.memory else {
        return String::new();
    };
    let mut rows = String::new();
    let mut row = |name: &str, at_rest: u64, full: u64| {
        let _infallible = write!(
            rows,
            "<tr><td>{}<td class=n>{}<td class=n>{}",
            escaped(name),
            mib(at_rest),
            mib(full)
        );
    };
    for one in &memory.maps {
        row(&format!("map {}", one.name), one.at_rest, one.full);
    }
    let (at_rest, full) = memory.sums();
    row("all maps", at_rest, full);
    if let Some(process) = &memory.process {
        row("mtls-probe watch, resident", process.at_rest, process.most);
        let what = "of that, its own (no file's)";
        row(what, process.own_at_rest, process.own_then);
    }
    format!(
        "<h2>Memory</h2><p>Maps by the kernel's own count, before any packet and with {} handshakes under way and \
         every window in use; each handshake that may be takes {:.0} bytes. The process at rest, and while as many \
         stall at once.</p><table><tr><th>MiB<th class=n>at rest<th class=n>full{rows}</table>",
        memory.flows, memory.per_flow
    )
}

fn not_measured(report: &Report) -> String {
    if report.not_measured.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for NotMeasured { what, why, broken } in &report.not_measured {
        let failed = if *broken {
            "<strong>failed</strong>: "
        } else {
            ""
        };
        let _infallible = write!(
            rows,
            "<tr><td>{}<td>{failed}{}",
            escaped(what),
            escaped(why)
        );
    }
    format!("<h2>Not measured</h2><table><tr><th>what<th>why{rows}</table>")
}

fn measurements(report: &Report) -> String {
    let mut rows = String::new();
    for one in &report.measurements {
        let _infallible = write!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}",
            escaped(&one.name),
            escaped(&one.what),
            escaped(&one.against),
            one.ratio_told(with),
            one.itself(),
            one.noise
                .map_or(String::new(), |noise| format!("{:.1} %", noise * 100.0)),
        );
    }
    format!(
        "<div class=wide><table><tr><th>name<th>what<th>against<th class=n>ratio<th class=n>itself<th class=n>control{rows}\
             </table></div>"
    )
}

fn took(report: &Report) -> String {
    if report.took.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for Part { what, seconds } in &report.took {
        let _infallible = write!(rows, "<tr><td>{what}<td class=n>{seconds:.0}");
    }
    format!("<h2>How long the run took</h2><table><tr><th>part<th>seconds{rows}</table>")
}

fn with(interval: Interval) -> String {
    format!(
        "{} <small>[{}&ndash;{}]</small>",
        short(interval.median),
        short(interval.low),
        short(interval.high)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const HEAD: &str = "<!doctype html>\n<html lang=en><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width\"><meta name=color-scheme content=light><title>gauntlet: what the probe costs</title>\n<style>\
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}\
main{max-width:1100px;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem}table{border-collapse:collapse;font-size:13px}\
th,td{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}small{color:#777}\
figure{margin:0}svg{max-width:100%;height:auto}\
tr.met td:nth-child(5){color:#176b2c}tr.missed td:nth-child(5){color:#a40000;font-weight:bold}\
tr.open td:nth-child(5){color:#9a6700}\
.wide{overflow-x:auto}.way{white-space:nowrap}h3{margin:1.5rem 0 .3rem}summary{cursor:pointer}\
</style>\n<main><h1>What the probe costs</h1>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_as_people_write_it() {
        assert_eq!(a_second(Some(1_000)), "1,000 a second");
        assert_eq!(a_second(Some(200_000)), "200,000 a second");
        assert_eq!(a_second(None), "as many as can be made");
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
