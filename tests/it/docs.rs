//! Holds the documents to the code: metrics, error codes, reasons, files, links, commands.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use linesight::{
    http::Code,
    metrics::{Metrics, Outcome, Planned},
    types::{Budget, Decision, Labels, Reason, Verdict},
};

const ARCHITECTURE: &str = "docs/architecture.md";
const METRICS: &str = "docs/metrics.md";

fn read(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(&path);
    assert!(text.is_ok(), "{}: {text:?}", path.as_ref().display());
    text.unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Type and labels of a metric, by its name.
type Catalogue = BTreeMap<String, (String, BTreeSet<String>)>;

/// Every metric the binary can export: each is touched once, as a series appears with its first
/// event.
fn exported() -> Catalogue {
    let metrics = Metrics::new();
    let (name, version) = ("m".parse().unwrap(), "1".parse().unwrap());
    let model = metrics.model(&name, Budget::default());
    let labels: Labels = ["a", "b"].map(std::sync::Arc::from).into();
    let of_version = model.version(version, &labels);
    of_version.answered(Outcome::Ok, Duration::ZERO, Budget::default());
    of_version.judged(None, Some(&Verdict::undecided(Reason::Views, None)));
    model.set_state(version, "serving", &["serving"]);
    model.set_info(version, "d", "p", "e");
    model.set_load_duration(version, Duration::ZERO);
    let planned = Planned { lanes: 1, threads_per_lane: 1, max_batch: 1, lane_bytes: Some(1) };
    model.set_plan(version, planned);
    model.golden_failed(version, 0);
    model.shed("queue");
    metrics.process.answered("data", 200);
    metrics.process.timed_out("idle");
    metrics.process.set_lanes([1, 0, 0]);
    metrics.process.set_build("v");
    metrics.process.set_onnxruntime("v", "d");

    let page = String::from_utf8(metrics.render()).unwrap();
    let mut all = Catalogue::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((series, labels)) = line.split_once('{') {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|it| series.strip_suffix(it).filter(|it| all.contains_key(*it)));
            let (_, known) = all.get_mut(family.unwrap_or(series)).unwrap();
            let names = labels.split("\",").filter_map(|it| it.split_once("=\"")).map(|it| it.0);
            known.extend(names.filter(|it| *it != "le").map(str::to_owned));
        }
    }
    all
}

/// The rows of docs/metrics.md: name, type, labels.
fn documented() -> Catalogue {
    let text = read(METRICS);
    let rows =
        text.lines().filter(|it| it.starts_with("| `linesight_") || it.contains("| `process_"));
    let row = |it: &str| {
        let cells: Vec<&str> = it.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 7, "a row has five columns: {it}");
        assert!(!cells[4].is_empty() && !cells[5].is_empty(), "unit or meaning is missing: {it}");
        let labels = quoted(cells[3]).map(str::to_owned).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    };
    rows.map(row).collect()
}

#[test]
fn the_page_of_metrics_is_what_the_binary_exports() {
    let (exported, documented) = (exported(), documented());
    for (name, kind_and_labels) in &exported {
        assert_eq!(documented.get(name), Some(kind_and_labels), "{name}, exported, in {METRICS}");
    }
    for name in documented.keys() {
        assert!(exported.contains_key(name), "{METRICS} has {name}, which is not exported");
    }
}

#[test]
fn queries_name_metrics_and_labels_that_exist() {
    let (text, exported) = (read(METRICS), exported());
    let queries: String =
        text.split("```promql").skip(1).filter_map(|it| it.split("```").next()).collect();
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let named =
        queries.split(part).filter(|it| it.starts_with("linesight_") || it.starts_with("process_"));
    for name in named {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
        let known = exported.contains_key(name) || stem.is_some_and(|it| exported.contains_key(it));
        assert!(known, "a query names {name}, which is not exported");
    }
}

#[test]
fn every_error_code_and_every_reason_is_explained() {
    let errors = read("docs/errors.md");
    for code in Code::ALL {
        assert!(
            errors.contains(&format!("| `{}` | {} |", code.as_str(), code.status())),
            "{code:?}"
        );
    }
    let protocol = read("docs/protocol.md");
    let named: BTreeSet<&str> = quoted(&protocol).collect();
    for word in Reason::ALL.iter().map(|it| it.as_str()) {
        assert!(named.contains(word), "docs/protocol.md does not explain the reason {word}");
    }
    for decision in [Decision::Approve, Decision::Reject, Decision::Undecided] {
        assert!(protocol.contains(decision.as_str()), "{decision:?}");
    }
}

/// Statuses beside codes: ``422 `no_item` ``.
#[test]
fn the_failures_in_the_life_of_a_request_have_the_status_of_their_code() {
    let text = read(ARCHITECTURE);
    let by_name: BTreeMap<&str, u16> =
        Code::ALL.iter().map(|it| (it.as_str(), it.status())).collect();
    let mut n_checked = 0;
    for (before, name) in text.match_indices('`').map(|(at, _)| text.split_at(at)) {
        let digits = before.strip_suffix(' ').and_then(|it| it.get(it.len().checked_sub(3)?..));
        let Some(status) = digits.and_then(|it| it.parse::<u16>().ok()) else { continue };
        let name = quoted(name).next().unwrap_or_default();
        assert_eq!(by_name.get(name), Some(&status), "{status} `{name}`");
        n_checked += 1;
    }
    assert!(n_checked > 20, "the table of failures was not found");
}

#[test]
fn every_file_the_map_names_is_there() {
    let text = read(ARCHITECTURE);
    let is_file = |it: &&str| {
        let path = Path::new(it);
        !it.contains([' ', '*', '{'])
            && path
                .extension()
                .is_some_and(|it| ["rs", "md", "json"].iter().any(|known| it == *known))
    };
    let table = text.split("## Where is").nth(1).and_then(|it| it.split("\n## ").next()).unwrap();
    let rows = table.lines().filter(|it| it.starts_with("| ")).skip(1);
    for row in rows {
        assert!(quoted(row).filter(is_file).count() > 0, "a row without a file: {row}");
    }
    // The paragraph on loading names the files of `repository` by themselves.
    let roots = ["", "src", "src/repository"];
    let found = |name: &str| roots.iter().any(|it| Path::new(it).join(name).is_file());
    let not_ours = ["package.toml", "card.json", "golden.json", "config.json", "reference.json"];
    for name in quoted(&text).filter(is_file).filter(|it| !not_ours.contains(it)) {
        assert!(found(name), "{ARCHITECTURE} names {name}, which is not there");
    }
    for entry in fs::read_dir("src").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().replace(".rs", "");
        let is_named = name == "lib" || text.contains(&format!("`{name}`")) || text.contains(&name);
        assert!(is_named, "{ARCHITECTURE} does not name the module {name}");
    }
}

/// Markdown of this repository; what is fetched, built or installed is not ours.
fn markdown(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // What a template links to is beside what is made of it.
        let is_ours = !name.starts_with('.') && !matches!(&*name, "target" | "templates");
        if path.is_dir() && is_ours {
            out.extend(markdown(&path));
        } else if path.extension().is_some_and(|it| it == "md") {
            out.push(path);
        }
    }
    out
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// How a heading is linked to: `Every key` as `every-key`.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars()
            .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'))
            .map(|it| if it == ' ' { '-' } else { it })
            .collect()
    };
    prose(text).lines().filter(|it| it.starts_with('#')).map(slug).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut complaints = Vec::new();
    for file in markdown(Path::new(".")) {
        let text = prose(&read(&file));
        let targets = |mark: &str, end: char| -> Vec<String> {
            text.split(mark)
                .skip(1)
                .filter_map(|it| Some(it.split_once(end)?.0.to_owned()))
                .collect()
        };
        for link in targets("](", ')').into_iter().chain(targets("src=\"", '"')) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            let leads =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !leads {
                complaints.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "links that lead nowhere:\n{}", complaints.join("\n"));
}

#[test]
fn commands_and_files_of_the_readme_exist() {
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    let is_target = |name: &str| makefile.lines().any(|it| it.starts_with(&format!("{name}:")));
    let blocks = readme.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter_map(|it| it.strip_prefix("make "));
    let prose = prose(&readme);
    let commands = quoted(&prose).filter_map(|it| it.strip_prefix("make ")).chain(lines);
    let mut n_checked = 0;
    for command in commands {
        let target = command.split(' ').next().unwrap_or_default();
        assert!(is_target(target), "README.md says `make {target}`");
        n_checked += 1;
    }
    assert!(n_checked > 3, "the commands of README.md were not found");
    for sample in readme.split('@').skip(1).filter(|it| it.starts_with("training/")) {
        let path = sample.split([' ', '"', '\n']).next().unwrap_or_default();
        assert!(Path::new(path).is_file(), "README.md sends {path}");
    }
}
