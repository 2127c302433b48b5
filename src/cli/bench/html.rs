//! The report as one page, with everything in it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::load::Step;
use super::numbers::Quantiles;
use super::plot::{Plot, Series, escaped, short};
use super::report::Report;
use super::stages::Stages;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1f24;--dim:#5d6873;--grid:#e3e7eb;--card:#f6f8fa;--bound:#b3261e;
--c0:#0b6bcb;--c1:#c2570c;--c2:#1a7f37;--c3:#8250df;--c4:#9a6700;--c5:#57606a;--c6:#bf3989}
@media(prefers-color-scheme:dark){:root{--bg:#0f1419;--fg:#e6eaee;--dim:#97a3af;--grid:#2a323a;--card:#171d24;--bound:#ff8a80;
--c0:#58a6ff;--c1:#ffa657;--c2:#56d364;--c3:#d2a8ff;--c4:#e3b341;--c5:#8b949e;--c6:#f778ba}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:20px 16px 48px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:32px 0 8px}p{margin:6px 0}
.dim,.dim td{color:var(--dim)}.plots{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
figure{margin:0;padding:12px;background:var(--card);border-radius:10px;min-width:0}figcaption{font-weight:600;margin-bottom:4px}
svg{width:100%;height:auto;display:block}svg text{font-size:13px;fill:var(--fg)}svg text.dim{fill:var(--dim)}
.grid{stroke:var(--grid)}.bound{stroke:var(--bound);stroke-width:2;stroke-dasharray:7 5}polyline{fill:none;stroke-width:2.5}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:13px}.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;
margin-right:5px}.scroll{overflow-x:auto;margin-top:16px}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--grid)}th:first-child,td:first-child{text-align:left}
th{font-weight:600;color:var(--dim)}.held{font-size:1.1rem;font-weight:600}
figcaption .dim{font-weight:400}@media(max-width:600px){svg text{font-size:21px}}";

/// The parts of a frame's way, in its order.
const WAY: [&str; 7] = ["receive", "queue", "decode", "render_wait", "draw", "encode", "send"];

/// Writes the page.
pub fn page(report: &Report) -> String {
    let done: Vec<&Step> = report.steps.iter().filter(|step| step.failed.is_none()).collect();
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>sightline bench</title><style>{STYLE}</style>\n<h1>sightline bench</h1>\n"
    );
    for line in report.head() {
        let _ = writeln!(page, "<p class=dim>{}</p>", escaped(&line));
    }
    if let Some(held) = report.held() {
        let _ = writeln!(page, "<p class=held>{}</p>", escaped(&held));
    }
    if !done.is_empty() {
        page.push_str("<h2>Latency and load</h2>\n<div class=plots>\n");
        page.push_str(&plots(report, &done));
        page.push_str("</div>\n");
        page.push_str(&steps_table(report, &done));
    }
    for step in &report.steps {
        if let Some(why) = &step.failed {
            let _ = writeln!(page, "<p>{} sessions: {}</p>", step.sessions, escaped(why));
        }
    }
    if !report.stages.is_empty() {
        page.push_str(
            "<h2>Stages alone</h2>\n<p class=dim>One picture on one thread, in ms: median and p95. The floor is decode \
                       and encode of the same frames, one after the other, at the camera's pace.</p>\n",
        );
        page.push_str(&stages_table(&report.stages));
    }
    page
}

fn plots(report: &Report, done: &[&Step]) -> String {
    let runs: Vec<String> = done.iter().map(|step| step.sessions.to_string()).collect();
    let series = |name: &str, value: &dyn Fn(&Step) -> Option<f64>| Series {
        name: name.to_owned(),
        values: done.iter().map(|step| value(step).filter(|value| value.is_finite())).collect(),
    };
    let quantiles = |pick: fn(&Step) -> Option<Quantiles>| {
        vec![
            series("p50", &|step| pick(step).map(|one| one.p50)),
            series("p95", &|step| pick(step).map(|one| one.p95)),
            series("p99", &|step| pick(step).map(|one| one.p99)),
            series("max", &|step| pick(step).map(|one| one.max)),
        ]
    };
    let plot = |title: &'static str, unit: &'static str, series: Vec<Series>| Plot {
        title,
        unit,
        runs: &runs,
        series,
        bound: None,
        logarithmic: false,
    };
    let bound = report.hold.as_ref().and_then(|held| held.p95_ms);
    let added = Plot { bound, logarithmic: true, ..plot(report.added_title(), "ms", quantiles(Step::added)) };
    let whole = plot("End to end: sent to last packet back", "ms", quantiles(|step| step.end_to_end_ms));
    let whole = Plot { logarithmic: true, ..whole };
    let rates = vec![
        series("frames back", &|step| Some(step.least(|one| one.fps))),
        series("detections", &|step| Some(step.least(|one| one.detections))),
    ];
    let memory = vec![series("server", &|step| step.server_rss_mib)];
    let mut all = vec![added.lines(), whole.lines()];
    all.push(plot("The session that has least of them", "a second", rates).lines());
    all.push(plot("Time on the cores", "% of one", cpu(done)).bars());
    let way: Vec<Series> = WAY
        .iter()
        .map(|stage| series(stage, &|step| step.stages_ms.get(*stage).map(|one| one[0])))
        .filter(|series| series.values.iter().any(Option::is_some))
        .collect();
    if !way.is_empty() {
        all.push(plot("Where a frame's time in the server goes (medians)", "ms", way).bars());
    }
    all.push(plot("Memory", "MiB", memory).lines());
    all.concat()
}

/// The server's kinds of thread, what is left of them, and the generator.
fn cpu(done: &[&Step]) -> Vec<Series> {
    let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
    for (kind, cpu) in done.iter().filter_map(|step| step.server_cpu.as_ref()).flat_map(|cpu| &cpu.threads) {
        *kinds.entry(kind).or_default() += cpu;
    }
    let mut kinds: Vec<(&str, f64)> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    kinds.truncate(3);
    let of = |step: &Step, kind: &str| step.server_cpu.as_ref()?.threads.get(kind).copied();
    let rest = |step: &Step| {
        let known: f64 = kinds.iter().filter_map(|(kind, _)| of(step, kind)).sum();
        Some((step.server_cpu.as_ref()?.total - known).max(0.0))
    };
    let mut all: Vec<Series> = kinds
        .iter()
        .map(|(kind, _)| Series {
            name: format!("server: {kind}"),
            values: done.iter().map(|step| of(step, kind)).collect(),
        })
        .collect();
    all.push(Series { name: "server: others".into(), values: done.iter().map(|step| rest(step)).collect() });
    let own = done.iter().map(|step| step.generator_cpu.as_ref().map(|cpu| cpu.total)).collect();
    all.push(Series { name: "generator".into(), values: own });
    all
}

fn row(cells: &[String], tag: &str) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect();
    format!("<tr>{}</tr>\n", cells.concat())
}

fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "–".into(), short)
}

fn steps_table(report: &Report, done: &[&Step]) -> String {
    let head = [
        "sessions",
        "frames/s",
        "detections/s",
        "missing %",
        "added p50",
        "p95",
        "p99",
        "max",
        "end to end p50",
        "p95",
        "p99",
        "max",
        "back kbit/s",
        "smallest picture",
        "server CPU %",
        "each",
        "generator CPU %",
        "memory MiB",
        "connect ms",
    ];
    let mut table = String::from("<div class=scroll><table>\n");
    table.push_str(&row(&head.map(str::to_owned), "th"));
    for step in done {
        let four = |quantiles: Option<Quantiles>| {
            let values = quantiles.map(|Quantiles { p50, p95, p99, max, .. }| [p50, p95, p99, max]);
            values.map_or([None; 4], |values| values.map(Some)).map(number)
        };
        let mut cells = vec![
            step.sessions.to_string(),
            number(Some(step.least(|one| one.fps))),
            number(Some(step.least(|one| one.detections))),
            number(Some(step.most(|one| one.missing) * 100.0)),
        ];
        cells.extend(four(step.added()));
        cells.extend(four(step.end_to_end_ms));
        let cpu = step.server_cpu.as_ref().map(|cpu| cpu.total);
        cells.extend([
            number(step.back_kbps()),
            step.smallest(),
            number(cpu),
            number(cpu.map(|cpu| cpu / step.sessions.max(1) as f64)),
            number(step.generator_cpu.as_ref().map(|cpu| cpu.total)),
            number(step.server_rss_mib),
            number(Some(step.connect_ms[0])),
        ]);
        table.push_str(&row(&cells, "td"));
    }
    table.push_str("</table></div>\n");
    let _ = writeln!(table, "<p class=dim>{}</p>", escaped(report.what_added_is()));
    table
}

fn stages_table(stages: &[Stages]) -> String {
    let mut table = String::from("<div class=scroll><table>\n");
    let mut head = vec!["size".to_owned()];
    head.extend(stages.first().into_iter().flat_map(Stages::named).map(|(name, _)| name.to_owned()));
    table.push_str(&row(&head, "th"));
    for one in stages {
        let mut cells = vec![format!("{}×{}", one.size.0, one.size.1)];
        let pair = |quantiles: Quantiles| format!("{} ({})", short(quantiles.p50), short(quantiles.p95));
        cells.extend(one.named().map(|(_, quantiles)| quantiles.map_or_else(|| "–".into(), pair)));
        table.push_str(&row(&cells, "td"));
    }
    table.push_str("</table></div>\n");
    table
}
