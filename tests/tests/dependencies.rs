//! Dependencies point only down, and siblings never meet.
//!
//! ```text
//! kernels < ops;  flow < {preprocess, pipeline};  {ops, bundle, preprocess, flow} < models < {targets, tools}
//! ```
//!
//! `pipeline` sees only `flow`; only `ops` knows a backend; only `targets` touches hardware; only `models` uses `tokenizers`.
//! Dependencies of tests and build scripts count like any other.

use std::collections::BTreeMap;
use std::fs;

use toml::{Table, Value};

use crate::root;

/// Where a member lies, and the members it may depend on. A path that ends in `/` stands for all members below it.
const MEMBERS: &[(&str, &[&str])] = &[
    ("runtime/kernels", &[]),
    ("runtime/ops", &["runtime/kernels"]),
    ("runtime/bundle", &[]),
    ("runtime/flow", &[]),
    ("runtime/preprocess", &["runtime/flow"]),
    ("runtime/pipeline", &["runtime/flow"]),
    ("models", &["runtime/ops", "runtime/bundle", "runtime/preprocess", "runtime/flow"]),
    ("targets/", &["runtime/", "models"]),
    ("tools/", &["runtime/", "models"]),
    ("tests", &["runtime/", "models", "targets/", "tools/"]),
];

/// Siblings that meet all the same: who, whom, why.
const BETWEEN_SIBLINGS: &[(&str, &str, &str)] = &[
    ("tools/cli", "tools/convert", "`ocelli import` shows its progress and its report"),
    ("tools/cli", "tools/eval", "`ocelli eval` prints what it measures"),
    ("tools/train", "tools/eval", "the dev metrics during training are those of `ocelli eval`"),
    ("tools/hub", "tools/hub", "its tests turn on its feature `testing`, the Hub on this machine"),
    ("tools/cli", "tools/hub", "`ocelli pull` fetches with it"),
    ("tools/cli", "targets/linux", "the one program: here the camera meets the commands"),
];

/// Crates from outside that only some members may name: the beginning of their names, and those members.
const RESERVED: &[(&[&str], &[&str])] = &[
    (&["tokenizers"], &["models"]),
    (BACKENDS, &["runtime/ops"]),
    (&["burn-pack", "burn-std"], &["runtime/bundle"]),
    // All others of the engine. Longer beginnings win, so this is not about the two lines above.
    (&["burn"], &["runtime/ops", "models", "tools/", "tests"]),
    (&["v4l", "libcamera", "gstreamer", "nokhwa"], &["targets/"]),
];

const BACKENDS: &[&str] =
    &["burn-flex", "burn-ndarray", "burn-wgpu", "burn-cubecl", "burn-cuda", "burn-rocm", "burn-cpu", "burn-tch", "burn-candle", "cubecl"];

/// Features of burn that choose a backend.
const BACKEND_FEATURES: &[&str] = &["flex", "ndarray", "wgpu", "vulkan", "metal", "webgpu", "cuda", "rocm", "cpu", "tch", "candle"];

/// Who may all the same: who, what, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("tools/train", "tokenizers", "trains the vocabulary that models/text reads"),
    ("tools/train", "burn-flex", "its cargo feature `x86-v4` turns on AVX-512 in the backend that `ops` has chosen"),
];

/// A member's manifest and where it lies.
struct Member {
    path: String,
    manifest: Table,
}

/// The workspace as it is.
fn workspace() -> (Table, Vec<Member>) {
    let read = |path: &str| -> Table {
        let file = root().join(path).join("Cargo.toml");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let root = read("");
    let paths = root["workspace"]["members"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    let members = paths.map(|path| Member { manifest: read(&path), path }).collect();
    (root, members)
}

/// Every table of dependencies of a manifest, those for some platforms included.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let platforms = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|t| t.values()).filter_map(Value::as_table);
    let tables = [manifest].into_iter().chain(platforms);
    let kinds = tables.flat_map(|table| KINDS.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    kinds.flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// The package that a dependency's name stands for: `package = …` here, or in the workspace's table.
fn package<'a>(name: &'a str, value: &'a Value, root: &'a Table) -> &'a str {
    let renamed = |value: &'a Value| value.get("package").and_then(Value::as_str);
    let shared = root.get("workspace").and_then(|w| w.get("dependencies")?.get(name));
    renamed(value).or_else(|| shared.and_then(renamed)).unwrap_or(name)
}

fn within(path: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|one| path == *one || (one.ends_with('/') && path.starts_with(one)))
}

/// What breaks the rule, a sentence each.
fn violations(root: &Table, members: &[Member]) -> Vec<String> {
    let name = |member: &Member| member.manifest["package"]["name"].as_str().unwrap().to_owned();
    let paths: BTreeMap<String, &str> = members.iter().map(|member| (name(member), member.path.as_str())).collect();
    let mut found = Vec::new();
    for Member { path, manifest } in members {
        let Some((_, below)) = MEMBERS.iter().find(|(place, _)| within(path, &[place])) else {
            found.push(format!("{path}: a member that the rule does not know; give it a place in MEMBERS"));
            continue;
        };
        for (key, value) in dependencies(manifest) {
            let package = package(key, value, root);
            if let Some(other) = paths.get(package) {
                let excepted = BETWEEN_SIBLINGS.iter().any(|(who, whom, _)| who == path && whom == other);
                if !within(other, below) && !excepted {
                    found.push(format!("{path} depends on {other}, which is not below it"));
                }
                continue;
            }
            let longest = |names: &&[&str]| names.iter().filter(|name| package.starts_with(**name)).map(|name| name.len()).max();
            let reserved = RESERVED.iter().filter_map(|(names, who)| Some((longest(names)?, who))).max_by_key(|(length, _)| *length);
            let excepted = EXCEPTIONS.iter().any(|(who, what, _)| who == path && *what == package);
            if let Some((_, who)) = reserved
                && !within(path, who)
                && !excepted
            {
                found.push(format!("{path} depends on {package}, which is for {} only", who.join(", ")));
            }
            let features = value.get("features").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            found.extend(
                features
                    .filter(|f| package == "burn" && BACKEND_FEATURES.contains(f) && path != "runtime/ops")
                    .map(|feature| format!("{path} turns on burn's feature {feature}, a backend: that is for runtime/ops only")),
            );
        }
        let features = manifest.get("features").and_then(Value::as_table).into_iter().flat_map(|table| table.values());
        let enabled = features.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        let backends =
            enabled.filter_map(|f| f.strip_prefix("burn/").or_else(|| f.strip_prefix("burn?/"))).filter(|f| BACKEND_FEATURES.contains(f));
        found.extend(
            backends
                .filter(|_| path != "runtime/ops")
                .map(|f| format!("{path} has a feature that turns on burn/{f}: that is for runtime/ops only")),
        );
    }
    found
}

#[test]
fn dependencies_point_only_down() {
    let (root, members) = workspace();
    assert!(members.len() >= 10, "only {} members were read", members.len());
    let found = violations(&root, &members);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_the_rule_forbids_is_found() {
    let (root, _) = workspace();
    let member = |path: &str, name: &str, rest: &str| Member {
        path: path.into(),
        manifest: format!("[package]\nname = \"{name}\"\n{rest}").parse().unwrap(),
    };
    let check = |path: &str, rest: &str| {
        let others = [
            member("runtime/flow", "ocelli-flow", ""),
            member("runtime/pipeline", "ocelli-pipeline", ""),
            member("runtime/preprocess", "ocelli-preprocess", ""),
            member("runtime/kernels", "ocelli-kernels", ""),
            member("models", "ocelli-models", ""),
            member("targets/linux", "ocelli-linux", ""),
        ];
        let members: Vec<Member> = others.into_iter().filter(|m| m.path != path).chain([member(path, "tested", rest)]).collect();
        violations(&root, &members)
    };
    let forbidden = [
        ("runtime/flow", "[dependencies]\nocelli-models.workspace = true"),
        ("runtime/pipeline", "[dependencies]\nocelli-preprocess.workspace = true"),
        ("runtime/pipeline", "[dev-dependencies]\nocelli-models.workspace = true"),
        ("runtime/preprocess", "[target.'cfg(unix)'.build-dependencies]\nocelli-pipeline = { path = \"../pipeline\" }"),
        ("models", "[dependencies]\nocelli-pipeline.workspace = true"),
        ("models", "[dependencies]\nocelli-kernels.workspace = true"),
        ("models", "[dependencies]\nengine = { package = \"burn-wgpu\", version = \"0.22\" }"),
        ("models", "[dependencies]\nburn = { workspace = true, features = [\"wgpu\"] }"),
        ("models", "[features]\nfast = [\"burn/flex\"]"),
        ("runtime/preprocess", "[dependencies]\nburn.workspace = true"),
        ("runtime/flow", "[dependencies]\nburn-std.workspace = true"),
        ("tools/cli", "[dependencies]\ntokenizers.workspace = true"),
        ("tools/cli", "[dependencies]\nburn-flex.workspace = true"),
        ("tools/bench", "[dependencies]\nocelli-linux.workspace = true"),
        ("runtime/pipeline", "[dependencies]\nv4l = \"0.14\""),
        ("runtime/new", ""),
    ];
    for (path, rest) in forbidden {
        assert_eq!(check(path, rest).len(), 1, "{path}: {rest}\n{:?}", check(path, rest));
    }
    let allowed = [
        ("models", "[dependencies]\nburn.workspace = true\ntokenizers.workspace = true\nocelli-preprocess.workspace = true"),
        ("runtime/ops", "[dependencies]\nburn-wgpu = \"0.22\"\nocelli-kernels.workspace = true\n[features]\nndarray = [\"burn/ndarray\"]"),
        ("targets/android", "[dependencies]\nv4l = \"0.14\"\nocelli-pipeline.workspace = true\nocelli-models.workspace = true"),
        ("tools/train", "[dependencies]\ntokenizers.workspace = true\nburn-flex = { workspace = true, optional = true }"),
        ("tools/cli", "[dependencies]\nocelli-linux.workspace = true"),
    ];
    for (path, rest) in allowed {
        assert_eq!(check(path, rest), Vec::<String>::new(), "{path}: {rest}");
    }
}

/// An exception that nobody uses any more is a hole.
#[test]
fn every_exception_is_used() {
    let (root, members) = workspace();
    let names: BTreeMap<&str, &str> = members.iter().map(|m| (m.manifest["package"]["name"].as_str().unwrap(), m.path.as_str())).collect();
    for (who, whom, _) in BETWEEN_SIBLINGS.iter().chain(EXCEPTIONS) {
        let member = members.iter().find(|m| m.path == *who).unwrap_or_else(|| panic!("no member {who}"));
        let packages = dependencies(&member.manifest).into_iter().map(|(key, value)| package(key, value, &root));
        let mut used = packages.map(|package| names.get(package).copied().unwrap_or(package));
        assert!(used.any(|one| one == *whom), "{who} no longer depends on {whom}: take the exception out");
    }
}

#[test]
fn versions_and_lints_stand_in_the_workspace_only() {
    let (root, members) = workspace();
    // A member that takes the place of a published crate has that crate's version, and its code may be generated.
    let stand_ins = root.get("patch").and_then(|patch| patch.get("crates-io")?.as_table()).into_iter().flatten();
    let stand_ins: Vec<&str> = stand_ins.filter_map(|(_, value)| value.get("path")?.as_str()).collect();
    for Member { path, manifest } in members.into_iter().filter(|member| !stand_ins.contains(&member.path.as_str())) {
        for key in ["version", "edition", "rust-version", "license"] {
            assert_eq!(manifest["package"][key].get("workspace"), Some(&Value::Boolean(true)), "{path}: {key}");
        }
        assert_eq!(manifest["lints"]["workspace"], Value::Boolean(true), "{path}: lints");
        for (name, value) in dependencies(&manifest) {
            assert_eq!(
                value.get("workspace"),
                Some(&Value::Boolean(true)),
                "{path}: {name}: its version belongs into the workspace's Cargo.toml"
            );
        }
    }
}

/// `unsafe` only where memory is mapped, hardware touched, or instructions chosen.
#[test]
fn unsafe_code_only_where_it_belongs() {
    const ALLOWED: &[&str] = &["runtime/kernels/", "runtime/bundle/", "targets/"];
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if path.is_dir() && !hidden && !path.join("CACHEDIR.TAG").exists() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 40, "only {} source files were found", files.len());
    for file in files {
        let place = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        // Put together here, so that this file does not find itself.
        let keywords = ["{", "fn", "impl", "extern"].map(|what| format!("{} {what}", "unsafe"));
        let used = code.into_iter().any(|line| keywords.iter().any(|keyword| line.contains(keyword.as_str())));
        assert!(!used || ALLOWED.iter().any(|allowed| place.starts_with(allowed)), "{place}: unsafe code is for {ALLOWED:?} only");
    }
}
