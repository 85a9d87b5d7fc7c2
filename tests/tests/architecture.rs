//! Who may import whom: read from `cargo metadata`, compared with the list of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom among our own rooms. A new arrow needs a line in an ADR.
const ARROWS: &[(&str, &[&str])] = &[
    ("kilter-types", &[]),
    ("kilter-signal", &["kilter-types"]),
    ("kilter-infer", &["kilter-types"]),
    ("kilter-wire", &["kilter-types"]),
    ("kilter-journal", &["kilter-types"]),
    ("kilter-recording", &["kilter-types"]),
    ("kilter-text", &["kilter-types"]),
    ("kilter-monitor", &["kilter-types", "kilter-signal", "kilter-infer"]),
    ("kilter-node", &["kilter-types", "kilter-monitor", "kilter-wire", "kilter-infer"]),
    ("kilter-source", SHARED),
    ("kilter-uplink", SHARED),
    ("kilter-ingest", SHARED),
    ("kilter-fold", SHARED),
    ("kilter-live", &[SHARED[0], SHARED[1], SHARED[2], SHARED[3], SHARED[4], SHARED[5], SHARED[6], "kilter-fold"]),
    ("kilter-fleet", SHARED),
    ("kilter-lab-config", SHARED),
    (
        "kilter-lake",
        &[SHARED[0], SHARED[1], SHARED[2], SHARED[3], SHARED[4], SHARED[5], SHARED[6], SHARED[7], "kilter-fold"],
    ),
    ("kilter-history", &[SHARED[0], SHARED[1], SHARED[2], SHARED[3], SHARED[4], SHARED[5], SHARED[6], "kilter-lake"]),
    ("kilter-train", &[SHARED[0], SHARED[1], SHARED[2], SHARED[3], SHARED[4], SHARED[5], SHARED[6], "kilter-history"]),
];

const SHARED: &[&str] = &[
    "kilter-types",
    "kilter-signal",
    "kilter-infer",
    "kilter-monitor",
    "kilter-wire",
    "kilter-journal",
    "kilter-recording",
    "kilter-text",
];

/// Binaries wire siblings together, each on its own side of the house.
const BINARIES: &[(&str, &[&str])] = &[
    ("kilter-agent", &["kilter-source", "kilter-uplink"]),
    ("kilter-aggregator", &["kilter-ingest", "kilter-fold", "kilter-live", "kilter-fleet"]),
    ("kilter-lab", &["kilter-fold", "kilter-lab-config", "kilter-lake", "kilter-history", "kilter-train"]),
];

/// Simulators and tools may import everything, but nothing that ships may import them.
const OUTSIDE: &[&str] = &[
    "kilter-machine",
    "kilter-world",
    "kilter-sim",
    "kilter-tests",
    "kilter-fuzz",
    "kilter-bits",
    "kilter-nostd-proof",
    "xtask",
];

/// Heavy stacks and the one room of each; what they themselves pull in is theirs.
const FENCED: &[(&str, &str)] = &[("polars", "kilter-history"), ("burn", "kilter-train"), ("deltalake", "kilter-lake")];

/// What must never link a heavy stack.
const LIGHT: &[&str] = &[
    "kilter-agent",
    "kilter-aggregator",
    "kilter-fuzz",
    "kilter-lab-config",
    "kilter-node",
    "kilter-sim",
    "kilter-tests",
    "xtask",
];

type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_import_is_on_the_list() {
    let violations = judge(&graph());
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_check_fails_when_a_rule_is_broken() {
    let planted = [
        ("kilter-signal", "kilter-wire"),
        ("kilter-live", "kilter-fleet"),
        ("kilter-agent", "kilter-fold"),
        ("kilter-fold", "kilter-world"),
        ("kilter-fold", "polars"),
        ("kilter-lab", "burn"),
        ("kilter-aggregator", "deltalake"),
    ];
    for (from, to) in planted {
        let mut graph = graph();
        graph.entry(from.into()).or_default().insert(to.into());
        assert!(!judge(&graph).is_empty(), "{from} imports {to} and nobody minds");
    }
}

fn judge(graph: &Graph) -> Vec<String> {
    let mut violations = Vec::new();
    for (package, imports) in graph.iter().filter(|(package, _)| package.starts_with("kilter-")) {
        if OUTSIDE.contains(&package.as_str()) {
            continue;
        }
        let listed = ARROWS.iter().find(|(name, _)| name == package).map(|(_, may)| may.to_vec());
        let binary = BINARIES.iter().find(|(name, _)| name == package).map(|(_, may)| [SHARED, may].concat());
        let Some(may) = listed.or(binary) else {
            violations.push(format!("{package} is not on the list"));
            continue;
        };
        for import in imports.iter().filter(|import| import.starts_with("kilter-")) {
            if !may.contains(&import.as_str()) {
                violations.push(format!("{package} imports {import}"));
            }
        }
    }
    for (package, imports) in graph.iter().filter(|(package, _)| is_ours(package)) {
        for (stack, room) in FENCED {
            let direct = imports.iter().any(|import| import == stack || import.starts_with(&format!("{stack}-")));
            if direct && package != room {
                violations.push(format!("{package} imports {stack}, which belongs to {room}"));
            }
        }
    }
    for package in LIGHT {
        let reached = reach(graph, package);
        for (stack, _) in FENCED {
            if reached.contains(*stack) {
                violations.push(format!("{package} links {stack}"));
            }
        }
    }
    violations
}

fn is_ours(package: &str) -> bool {
    package.starts_with("kilter-") || package == "xtask"
}

fn reach<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(package) = open.pop() {
        for import in graph.get(package).into_iter().flatten() {
            if seen.insert(import) {
                open.push(import);
            }
        }
    }
    seen
}

/// Normal and build dependencies of every package; development dependencies are free.
fn graph() -> Graph {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs in the workspace");
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (p.id.clone(), p.name.to_string())).collect();
    let resolve = metadata.resolve.expect("cargo metadata resolves");
    let mut graph = Graph::new();
    for node in resolve.nodes {
        let imports = graph.entry(names[&node.id].clone()).or_default();
        for dependency in node.deps {
            if dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development) {
                imports.insert(names[&dependency.pkg].clone());
            }
        }
    }
    graph
}
