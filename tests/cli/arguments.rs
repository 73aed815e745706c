//! Wrong arguments, help, exit codes.

use std::path::Path;

use crate::support::run_in;

fn refused(args: &[&str], stderr: &str) {
    let said = run_in(Path::new("."), args);
    assert_eq!(said.stderr, stderr, "vlft {}", args.join(" "));
    assert_eq!(said.stdout, "");
    assert_eq!(said.code, Some(2));
}

#[test]
fn help_explains_the_exit_codes() {
    let said = run_in(Path::new("."), &["help", "exit-codes"]);
    assert_eq!(said.code, Some(0));
    for line in ["    0  done", "    4  device", "  130  interrupted"] {
        assert!(said.stdout.contains(line), "{}", said.stdout);
    }
}

#[test]
fn help_on_help_is_help() {
    let help = |args: &[&str]| {
        let said = run_in(Path::new("."), args);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{args:?}");
        said.stdout
    };
    assert_eq!(help(&["help", "--help"]), help(&["help"]));
    assert_eq!(help(&["help", "split", "-h"]), help(&["help", "split"]));
}

#[test]
fn json_is_one_object() {
    for args in [
        ["exit-codes", "--format", "json"],
        ["--format", "json", "exit-codes"],
    ] {
        let said = run_in(Path::new("."), &args);
        let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(json["exit_codes"][0]["meaning"], "done");
    }
}

#[test]
fn a_wrong_global_value_lists_the_right_ones() {
    refused(
        &["exit-codes", "--format", "jsn"],
        "error: invalid value for `--format <FORMAT>`\n  expected one of `text`, `json`, found `jsn`\n\n\
         hint: did you mean `json`?\n",
    );
}
