//! A run as one HTML page that needs nothing beside it: the verdicts, charts, and every figure as a table.
//! Decides nothing.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};

use crate::chart;
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
            "Our parser's time for a message, in tls-parser's, and in that of reading every byte once.",
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
            &format!("How it grows with {}", growth.with),
            &format!(
                "In {}; the lines at the points are 95 % intervals of the medians. What is beside is idle.",
                growth.against
            ),
            chart::growth(growth),
        )?);
    }
    for rate in rates(report) {
        put(&section(
            &format!("How long an event takes, {rate} a second"),
            "From the BPF program to the reader: half, 99 of 100, 999 of 1,000 and all events take at most so long. \
             Medians over rounds. A floor holds one event: of those that come faster than they are read, only the \
             last counts.",
            chart::latencies(report, rate),
        )?);
    }
    put(&deliveries(report));
    put(&memory(report));
    put(&not_measured(report));
    put("<h2>All ratios</h2>");
    put(&measurements(report));
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

fn rates(report: &Report) -> Vec<u32> {
    let rows = report.delivery.iter().flat_map(|all| &all.rows);
    let mut rates: Vec<u32> = rows.map(|row| row.rate).collect();
    rates.dedup();
    rates
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
        let (what, ratio) = measured.map_or((budget.of.clone(), String::new()), |one| {
            (format!("{}, in {}", one.what, one.against), with(one.ratio))
        });
        let why = match &budget.missed {
            Some(missed) => format!("{}. Missed because {}", budget.reason, missed.reason),
            None => budget.reason.clone(),
        };
        let _infallible = write!(
            rows,
            "<tr class={}><td>{}<td class=n>{}<td class=n>{}<td>{}<td>{}",
            verdict
                .word()
                .split([' ', ','])
                .next()
                .unwrap_or_default()
                .to_lowercase(),
            escaped(&what),
            ratio,
            escaped(&budget.bound()),
            verdict.word(),
            escaped(&why),
        );
    }
    format!("<table><tr><th>what<th>measured<th>budget<th>verdict<th>why this much{rows}</table>")
}

fn deliveries(report: &Report) -> String {
    let Some(delivery) = &report.delivery else {
        return String::new();
    };
    let mut rows = String::new();
    for row in &delivery.rows {
        let _infallible = write!(
            rows,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{:.0}<td class=n>{}<td class=n>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{:.0} %",
            row.way.word(),
            row.bytes,
            row.rate,
            row.made,
            row.offered,
            row.delivered,
            row.lost,
            with(row.p50),
            with(row.p99),
            with(row.p999),
            with(row.max),
            row.processor.median * 100.0,
        );
    }
    format!(
        "<h2>Delivery, in figures</h2><p>Both ends {}. Times in microseconds.</p>\
         <table><tr><th>way<th>bytes<th>wanted/s<th>made/s<th>offered<th>delivered<th>lost<th>p50<th>p99<th>p99.9\
         <th>max<th>reader{rows}</table>",
        delivery.class.word()
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
         stall at once.</p><table><tr><th>MiB<th>at rest<th>full{rows}</table>",
        memory.flows, memory.per_flow
    )
}

fn not_measured(report: &Report) -> String {
    if report.not_measured.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for NotMeasured { what, why } in &report.not_measured {
        let _infallible = write!(rows, "<tr><td>{}<td>{}", escaped(what), escaped(why));
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
            with(one.ratio),
            one.itself(),
            one.noise
                .map_or(String::new(), |noise| format!("{:.1} %", noise * 100.0)),
        );
    }
    format!("<table><tr><th>name<th>what<th>against<th>ratio<th>itself<th>control{rows}</table>")
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
<meta name=viewport content=\"width=device-width\"><title>gauntlet: what the probe costs</title>\n<style>\
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}\
main{max-width:1100px;margin:2rem auto;padding:0 1rem}\
h2{margin-top:2.5rem}table{border-collapse:collapse;font-size:13px}\
th,td{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}small{color:#777}\
figure{margin:0}svg{max-width:100%;height:auto}\
tr.met td:nth-child(4){color:#176b2c}tr.missed td:nth-child(4){color:#a40000}\
tr.inconclusive td:nth-child(4){color:#9a6700}\
</style>\n<main><h1>What the probe costs</h1>\n";
