//! `target_parameters`: PEFT trains parameters that are no module's weight, such as fused experts, as pairs
//! whose names say less than those of modules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::report::{Fate, Problem, TensorFate};

/// Parameters that the config says were trained, and that have no tensors: a server applies nothing there and
/// says nothing.
pub(super) fn parameter_problem(config: &Value, fates: &[TensorFate]) -> Option<Problem> {
    let targets = config.get("target_parameters")?.as_array()?;
    let targets: Vec<&str> = targets.iter().filter_map(Value::as_str).collect();
    let mut of_module: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for target in targets {
        // Experts are the parameters that are named without their module.
        let module = target.rsplit_once('.').map_or("experts", |(path, _)| path);
        of_module.entry(module).or_default().push(target);
    }
    let pairs = pairs(fates);
    let mut missing: Vec<String> = Vec::new();
    for (module, targets) in of_module {
        let suffix = format!(".{module}");
        let found = pairs.iter().filter(|(path, _)| {
            let path = path.as_str();
            path == module || path.ends_with(&suffix)
        });
        // Of several parameters of a module each has a pair of its own.
        let least = found.map(|(_, levels)| levels.len()).min().unwrap_or(0);
        if least < targets.len() {
            missing.extend(targets.iter().map(|target| match least {
                0 => (*target).to_string(),
                _ => format!("{target}: {least} of {} have tensors", targets.len()),
            }));
        }
    }
    let why = "the config says that these parameters were trained, the file has no tensors of them";
    (!missing.is_empty()).then(|| Problem {
        count: missing.len(),
        examples: missing.into_iter().take(2).collect(),
        ..Problem::whole("missing-parameter", Fate::Ignored, why.into())
    })
}

/// The paths that have pairs, and at which depths: PEFT wraps the parameters of one module around each
/// other, so that they are told apart by `.base_layer` behind the path.
fn pairs(fates: &[TensorFate]) -> BTreeMap<String, BTreeSet<usize>> {
    let mut pairs: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for tensor in fates {
        let Some((mut path, _)) = tensor.name.split_once(".lora_") else {
            continue;
        };
        let mut depth = 0;
        while let Some(inner) = path.strip_suffix(".base_layer") {
            (path, depth) = (inner, depth + 1);
        }
        pairs.entry(path.to_string()).or_default().insert(depth);
    }
    pairs
}
