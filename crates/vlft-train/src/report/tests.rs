use super::*;
use crate::log::MetricsLog;

/// A run of `n` steps that looks like one: a falling, noisy loss and an evaluation now and then.
fn run(dir: &Path, n: u64) {
    fs::write(dir.join("config.toml"), "[model]\npath = \"<models>\"\n").unwrap();
    let mut log = MetricsLog::create(dir).unwrap();
    for step in 1..=n {
        let noise = ((step * 2_654_435_761) % 1000) as f64 / 1000.0 - 0.5;
        let loss = 0.4 + 2.2 * (-(step as f64) / 60.0).exp() + 0.25 * noise;
        let line = StepLine {
            step,
            loss,
            grad_norm: 0.5 + 0.4 * noise + 3.0 * (-(step as f64) / 20.0).exp(),
            lr: 1e-4 * (step as f64 / 20.0).min(1.0) * (1.0 - step as f64 / (n as f64 + 1.0)),
            tokens: 4000,
            padding_tokens: 0,
            supervised_tokens: 300,
            seconds: 1.0 + 0.2 * noise,
            data_seconds: 0.0,
            device_bytes: None,
            samples: vec![format!("bill & co <{step}>"), format!("doc-{}", step * 7)],
            skipped: Vec::new(),
        };
        log.write(&Line::Step(line)).unwrap();
        if step % 25 == 0 {
            let line = EvalLine {
                step,
                loss: 0.5 + 2.0 * (-(step as f64) / 60.0).exp(),
                records: 20,
                tokens: 900,
                seconds: 2.0,
                best: true,
                field_accuracy: Some(step as f64 / 400.0),
                score: None,
            };
            for id in ["val & <1>", "val-2"] {
                let target = format!("{{\"id\":\"{id}\",\"total\":12.5}}");
                let answer = format!("{{\"id\":\"{id}\",\"total\":{step}}}");
                let sample = SampleLine {
                    step,
                    id: id.to_owned(),
                    score: vlft_dataset::score::score(&target, &answer),
                    target,
                    answer,
                    tokens: 20,
                    ended: step > 50,
                };
                log.write(&Line::Sample(sample)).unwrap();
            }
            log.write(&Line::Eval(line)).unwrap();
        }
    }
}

#[test]
fn a_run_is_one_page_that_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 300);
    write(dir.path()).unwrap();
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 5);
    for outside in [
        "http:", "https:", "<script", "url(", "@import", "<link", "<img",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    for number in ["NaN", "inf"] {
        assert!(!page.contains(number), "{number}");
    }
    assert!(page.contains("bill &amp; co &lt;"));
    assert!(page.contains("not finished: 300 optimizer steps so far"));
    assert!(page.contains("path = &quot;&lt;models&gt;&quot;"));
    assert_eq!(page.matches("<tr>").count(), 9);
    // Twelve evaluations: the six newest (the best is one of them) and the first; the newest open.
    assert_eq!(page.matches("<article>").count(), 2);
    assert_eq!(page.matches("<summary>after step").count(), 2 * 7);
    assert_eq!(page.matches("<details open>").count(), 2);
    assert!(page.contains("5 more between these"));
    assert!(page.contains("after step 300: 1 of 2 fields right (best evaluation)"));
    assert!(page.contains("cut off after 20 tokens"));
    assert!(page.contains("val &amp; &lt;1&gt;"));
    assert!(page.contains("&quot;total&quot;:<del>12.5</del><ins>300</ins>}"));
    // To look at it: VLFT_KEEP=/tmp/report cargo test -p vlft-train report
    if let Some(keep) = std::env::var_os("VLFT_KEEP") {
        fs::create_dir_all(&keep).unwrap();
        fs::write(Path::new(&keep).join("report.html"), page).unwrap();
    }
}

#[test]
fn short_long_and_empty_runs_have_a_page() {
    for steps in [0, 1, 2, 5000] {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), steps);
        write(dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
        assert!(!page.contains("NaN") && !page.contains("inf,"));
        assert!(
            page.len() < 400_000,
            "{steps} steps make {} bytes",
            page.len()
        );
    }
}

#[test]
fn numbers_are_short() {
    for (value, text) in [
        (0.0, "0"),
        (1.87344, "1.873"),
        (0.5, "0.5"),
        (12.0, "12"),
        (4119.6, "4 120"),
        (2e-5, "2e-5"),
        (1.25e-7, "1.25e-7"),
        (0.0123, "0.0123"),
        (999.96, "1000"),
    ] {
        assert_eq!(number(value), text);
    }
}
