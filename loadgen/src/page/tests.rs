//! The page as a whole, from files to text.

use std::path::PathBuf;

use super::subject::arrange;
use super::*;
use crate::report::{
    BrokerCost, Buckets, Check, Ended, FORMAT, FORMAT_VERSION, Generator, Group, Judgement,
    Latency, LatencyPair, Ledger, Machine, Pace, Phases, Published, QosResult, Reason, Receipts,
    Run, ScenarioNote, Second, StageResult, Totals, Validity, Verdict,
};

/// A run with numbers that are `scale` times those of a fast broker.
fn run(label: &str, qos: u8, scale: f64) -> ResultFile {
    let pair = latency(scale);
    let ledger = Ledger {
        owed: 1_000_000,
        delivered: 1_000_000,
        order_checked: true,
        ..Ledger::default()
    };
    let rate = 800_000.0 / scale;
    ResultFile {
        format: FORMAT.to_owned(),
        version: FORMAT_VERSION,
        run: about(label),
        validity: Validity {
            valid: true,
            reasons: Vec::new(),
            generator: Generator::default(),
        },
        totals: Totals {
            clients: 100,
            connected: 100,
            connects_per_s: 10_000.0,
            sent_per_s: rate,
            received_per_s: rate,
            received_bytes_per_s: rate * 64.0,
            latency: Some(pair.clone()),
            ledger,
        },
        groups: vec![publishers(qos, rate), subscribers(qos, rate, &pair, ledger)],
        qos: vec![QosResult {
            qos,
            sent: 1_000_000,
            sent_per_s: rate,
            received: 1_000_000,
            received_per_s: rate,
            latency: Some(pair),
            ledger,
        }],
        timeline: (0..5).map(|n| second(n, rate, scale)).collect(),
        broker: Some(BrokerCost {
            user_ns_per_delivery: Some(300.0 * scale),
            system_ns_per_delivery: Some(800.0 * scale),
            rss_peak_bytes: Some(20 << 20),
            ..BrokerCost::default()
        }),
        sys: None,
        inside: None,
        troubles: Vec::new(),
        stages: Vec::new(),
        storm: None,
        verdicts: Vec::new(),
        agents: None,
    }
}

fn latency(scale: f64) -> LatencyPair {
    let us = |us: f64| (us * scale) as u64;
    let latency = Latency {
        count: 100_000,
        min_us: us(40.0),
        mean_us: 120.0 * scale,
        p50_us: us(100.0),
        p90_us: us(180.0),
        p99_us: us(400.0),
        p999_us: us(900.0),
        p9999_us: us(2000.0),
        max_us: us(3000.0),
        curve: Vec::new(),
    };
    LatencyPair {
        corrected: latency.clone(),
        uncorrected: latency,
    }
}

fn second(n: u32, rate: f64, scale: f64) -> Second {
    Second {
        at_s: f64::from(n),
        span_s: 1.0,
        sent: rate as u64,
        received: rate as u64,
        p50_us: Some((100.0 * scale) as u64),
        p99_us: Some((400.0 * scale) as u64),
        max_us: Some((900.0 * scale) as u64),
        broker_cpu: Some(0.9),
        broker_rss_bytes: Some(20 << 20),
        ..Second::default()
    }
}

fn about(label: &str) -> Run {
    Run {
        label: Some(label.to_owned()),
        ringload: "0.1.0".to_owned(),
        command: vec!["ringload".to_owned(), "run".to_owned(), "pairs".to_owned()],
        run_id: "r1".to_owned(),
        started_unix_ms: 1_795_000_000_000,
        scenario: ScenarioNote {
            name: "pairs".to_owned(),
            about: "Each publisher has a subscriber of its own.".to_owned(),
            toml: "name = \"pairs\"\n".to_owned(),
        },
        target: "127.0.0.1:1883".to_owned(),
        machine: Machine {
            cpu: "A processor".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.18".to_owned(),
            load_before: 0.1,
            ..Machine::default()
        },
        phases: Phases {
            warmup_s: 1.0,
            window_s: 4.0,
            ..Phases::default()
        },
        ended: Ended::Planned,
    }
}

fn publishers(qos: u8, rate: f64) -> Group {
    Group {
        name: "publishers".to_owned(),
        clients: 50,
        protocol: "5.0".to_owned(),
        tls: false,
        transport: None,
        connected: 50,
        connect: None,
        reconnects: 0,
        publish: Some(Published {
            qos,
            topic: "pairs/{i}".to_owned(),
            payload: "64 B".to_owned(),
            pace: Pace::Window { per_client: 10 },
            sent: 1_000_000,
            sent_per_s: rate,
            acknowledged: 0,
            refused: 0,
            acknowledge: None,
            unacknowledged: None,
            skipped: 0,
        }),
        receive: None,
    }
}

fn subscribers(qos: u8, rate: f64, pair: &LatencyPair, ledger: Ledger) -> Group {
    Group {
        name: "subscribers".to_owned(),
        publish: None,
        receive: Some(Receipts {
            qos,
            filters: vec!["pairs/{i}".to_owned()],
            received: 1_000_000,
            received_per_s: rate,
            received_bytes_per_s: rate * 64.0,
            latency: Some(pair.clone()),
            retained: None,
            may_lose: false,
            ledger,
        }),
        ..publishers(qos, rate)
    }
}

fn invalid(mut file: ResultFile) -> ResultFile {
    file.validity.valid = false;
    file.validity.reasons.push(Reason {
        check: Check::Cpu,
        text: "the generator had no CPU left".to_owned(),
    });
    file
}

fn page_of(files: Vec<ResultFile>) -> String {
    let scenarios = arrange(files);
    let plots: Vec<_> = scenarios.iter().map(plots::of).collect();
    let contents = view::Contents {
        scenarios: &scenarios,
        overview: &plots::overview(&scenarios),
        plots: &plots,
        searches: &[],
        found: &[],
    };
    view::page(None, &contents).into_string()
}

/// A folder of this test alone, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("ringload-page-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn runs_are_sorted_by_scenario_and_rounds_by_label() {
    let files = vec![
        run("ringmq", 0, 1.0),
        run("other", 0, 5.0),
        run("ringmq", 1, 2.0),
        run("ringmq", 0, 1.2),
        run("ringmq", 0, 0.5),
    ];
    let scenarios = arrange(files);
    let titles: Vec<&str> = scenarios.iter().map(|s| s.title.as_str()).collect();
    assert_eq!(titles, ["pairs, QoS 0", "pairs, QoS 1"]);
    let [ringmq, other] = &scenarios[0].subjects[..] else {
        panic!("two brokers")
    };
    assert_eq!((ringmq.label.as_str(), ringmq.color), ("ringmq", "s1"));
    assert_eq!((other.label.as_str(), other.color), ("other", "s2"));
    assert_eq!(ringmq.rounds().len(), 3);
    let rate = ringmq
        .spread(|file| Some(file.totals.received_per_s))
        .unwrap();
    assert_eq!(rate.median, 800_000.0);
    assert_eq!((rate.min.round(), rate.max), (666_667.0, 1_600_000.0));
    assert_eq!(ringmq.typical().totals.received_per_s, rate.median);
}

#[test]
fn a_round_that_cannot_be_trusted_does_not_count_beside_valid_ones() {
    let files = vec![
        invalid(run("ringmq", 0, 0.1)),
        run("ringmq", 0, 1.0),
        invalid(run("other", 0, 1.0)),
    ];
    let scenarios = arrange(files);
    let [ringmq, other] = &scenarios[0].subjects[..] else {
        panic!("two brokers")
    };
    assert_eq!((ringmq.counted().len(), ringmq.is_invalid()), (1, false));
    assert_eq!((other.counted().len(), other.is_invalid()), (1, true));
}

#[test]
fn a_page_has_the_numbers_and_needs_nothing_from_elsewhere() {
    let mut lossy = run("other", 0, 5.0);
    lossy.totals.ledger.lost = 1744;
    let page = page_of(vec![run("ringmq", 0, 1.0), lossy, run("ringmq", 1, 2.0)]);
    for expected in [
        "2 brokers in 2 scenarios",
        "800 k/s",
        "1.1 µs",
        "400 µs",
        r#"<td class="bad">1,744</td>"#,
        "Latency by percentile",
        "prefers-color-scheme:dark",
        "publishers: 50 clients, MQTT 5.0; publish to pairs/{i} at QoS 0, payload 64 B",
        "A processor, 8 GiB, Linux 6.18",
        "ringload run pairs --run-id r1",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "src=", "url(", "@import", "<link"] {
        assert!(!rest.contains(foreign), "{foreign}");
    }
    assert_eq!(
        page.matches("<svg ").count(),
        page.matches("</svg>").count()
    );
}

#[test]
fn titles_say_what_runs_differ_in() {
    let at = |rate: f64| {
        let mut file = run("ringmq", 1, 1.0);
        for group in &mut file.groups {
            if let Some(publish) = &mut group.publish {
                publish.pace = Pace::Rate { per_client: rate };
            }
        }
        file
    };
    let mut large = at(400.0);
    large.groups[0].publish.as_mut().unwrap().payload = "1024".to_owned();
    let mut elsewhere = at(400.0);
    elsewhere.groups[0].publish.as_mut().unwrap().topic = "other/{i}".to_owned();
    let scenarios = arrange(vec![at(400.0), at(800.0), at(1600.0)]);
    let titles = |scenarios: &[subject::Scenario]| -> Vec<String> {
        scenarios
            .iter()
            .map(|scenario| scenario.title.clone())
            .collect()
    };
    let expected = [
        "pairs, QoS 1, 20 k/s",
        "pairs, QoS 1, 40 k/s",
        "pairs, QoS 1, 80 k/s",
    ];
    assert_eq!(titles(&scenarios), expected);
    let overview = plots::overview(&scenarios);
    assert_eq!(
        overview[0].plot.title,
        "p99 latency against load: pairs, QoS 1"
    );
    let others = arrange(vec![at(400.0), large, elsewhere]);
    let expected = [
        "pairs, QoS 1, 64 B",
        "pairs, QoS 1, 1 KiB",
        "pairs, QoS 1, 64 B (2)",
    ];
    assert_eq!(titles(&others), expected);
}

#[test]
fn warnings_precede_numbers_and_are_grouped() {
    let page = page_of(vec![invalid(run("ringmq", 0, 1.0))]);
    let doubt = page.find("the generator had no CPU left").unwrap();
    assert!(doubt < page.find("800 k/s").unwrap());
    assert!(page.contains("The run is not valid"), "in the verdict");
    assert!(page.contains(r#"class="tiles invalid""#));
    let doubtful = ["a", "b", "c"].map(|label| invalid(invalid(run(label, 0, 1.0))));
    let page = page_of(doubtful.into());
    assert_eq!(page.matches("the generator had no CPU left").count(), 1);
    assert!(page.contains("and 5 more of this kind"));
    let bars = plots::of(&arrange(vec![run("a", 0, 1.0), invalid(run("b", 0, 1.0))])[0]);
    let (counts, hatched) = (r#"class="s1 solid""#, r#"class="s2 stroke thin""#);
    assert!(bars[0].plot.svg.contains(counts) && bars[0].plot.svg.contains(hatched));
}

#[test]
fn thresholds_are_on_top_with_their_verdict() {
    let mut file = run("ringmq", 0, 1.0);
    let verdict = |threshold: &str, judgement, shown: &str| Verdict {
        threshold: threshold.to_owned(),
        stage: None,
        judgement,
        value: None,
        shown: shown.to_owned(),
    };
    file.verdicts = vec![
        verdict("latency.p99 < 5ms", Judgement::Passed, "0.4 ms"),
        verdict("lost = 0", Judgement::Missed, "3"),
        verdict("broker.cpu < 1", Judgement::NotJudged, "not measured"),
    ];
    let page = page_of(vec![file.clone()]);
    let mut from = page.find("1 of 2 thresholds missed").unwrap();
    for expected in [
        "latency.p99 &lt; 5ms",
        "✓ met",
        "✗ missed",
        "? not judged",
        "800 k/s",
    ] {
        let at = page[from..].find(expected);
        from += at.unwrap_or_else(|| panic!("{expected} does not follow"));
    }
    file.verdicts.truncate(1);
    assert!(page_of(vec![file]).contains("The threshold was met; every delivery arrived once"));
}

#[test]
fn a_run_alone_shows_where_its_latencies_were_and_when_clients_were_back() {
    let mut file = run("ringmq", 0, 1.0);
    for (second, ready) in file.timeline.iter_mut().zip([100, 100, 40, 80, 100]) {
        let mut latencies = Buckets::default();
        latencies.add(100, 1000);
        latencies.add(90_000, 1);
        (second.ready, second.latencies) = (Some(ready), Some(latencies));
    }
    let scenarios = arrange(vec![file]);
    let plots = plots::of(&scenarios[0]);
    let named = |name: &str| {
        let found = plots
            .iter()
            .find(|plot| plot.name == format!("pairs-qos-0-{name}"));
        &found.unwrap_or_else(|| panic!("no plot {name}")).plot.svg
    };
    assert_eq!(
        named("latency-over-time").matches(" opacity=").count(),
        10,
        "two cells a second"
    );
    // From the beginning of the third second to the end of the fifth.
    assert!(named("connections-over-time").contains(">back, 3 s<"));
    for shade in [">warm-up<", "class=\"shade solid\""] {
        assert!(named("rate-over-time").contains(shade), "{shade}");
    }
}

#[test]
fn stages_are_named_in_plots_and_have_a_table() {
    let mut file = run("ringmq", 0, 1.0);
    let stage = |name: &str, at_s: f64| StageResult {
        name: name.to_owned(),
        at_s,
        span_s: 2.0,
        load_from: 0.5,
        load_to: 4.0,
        sent_per_s: 1000.0,
        received_per_s: 1000.0,
        latency: None,
        ledger: Ledger::default(),
        broker_cores: Some(0.5),
    };
    file.stages = vec![stage("calm", 1.0), stage("spike", 3.0)];
    let page = page_of(vec![file]);
    assert!(page.contains(">spike</text>"), "in the plots");
    assert!(page.contains("<td>spike</td><td>3 s</td><td>2 s</td><td>50 % to 400 %</td>"));
}

#[test]
fn a_search_shows_its_trials_its_limit_and_what_was_found() {
    let folder = Folder::new("search");
    let trial = |load: f64, outcome: &str, p99_us: f64| serde_json::json!({"at_s": 1.0, "load": load, "outcome": outcome, "p99_us": p99_us});
    let file = serde_json::json!({
        "format": "ringload-capacity",
        "version": 1,
        "label": "ringmq",
        "ringload": "0.1.0",
        "command": ["ringload", "find-max", "pairs", "--password", "secret"],
        "started_unix_ms": 1_795_000_000_000_u64,
        "scenario": {"name": "pairs", "about": "Pairs.", "toml": ""},
        "target": "127.0.0.1:1883",
        "machine": {"cpu": "A processor", "cores": 2, "memory_bytes": 8_589_934_592_u64,
                    "kernel": "6.18", "load_before": 0.1},
        "limits": ["lost = 0", "latency.p99 < 5ms"],
        "sentence": "holds 186,000 msg/s of `pairs` with latency.p99 < 5ms and lost = 0",
        "rounds": [{
            "answer": {"conclusion": "found", "load": 186e3, "low": 179e3, "high": 191e3,
                       "trials": 4},
            "trials": [
                trial(100e3, "good", 400.0),
                trial(180e3, "good", 3_000.0),
                trial(200e3, "bad", 50_000.0),
                trial(190e3, "void", 90_000.0),
                trial(180e3, "good", 4_000.0),
            ],
        }],
    });
    let path = folder.0.join("capacity.json");
    fs::write(&path, file.to_string()).unwrap();
    let request = Request {
        files: vec![path.clone()],
        page: folder.0.join("page.html"),
        svg: Some(folder.0.join("plots")),
        title: None,
    };
    let written = write(&request).unwrap();
    assert_eq!((written.runs, written.searches, written.plots), (0, 1, 1));
    let page = fs::read_to_string(&request.page).unwrap();
    for expected in [
        "<h1>The largest load: \u{2068}ringmq\u{2069}, pairs</h1>",
        "Holds 186,000 msg/s of `pairs`",
        "4 trials and 1 confirmation; good is what keeps to lost = 0, latency.p99 &lt; 5ms",
        "A processor, 8 GiB, Linux 6.18",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("secret"));
    let svg = fs::read_to_string(folder.0.join("plots/capacity-pairs-0-0.svg")).unwrap();
    for expected in [">p99 &lt; 5 ms<", ">186 k/s (95 %: 179 k to 191 k)<"] {
        assert!(svg.contains(expected), "{expected}");
    }
    let count = |class: &str| svg.matches(&format!("class=\"{class} solid\"")).count();
    assert_eq!(count("good"), 1 + 3 + 1, "legend, trials, what was found");
    assert_eq!(count("bad"), 1 + 1 + 1, "legend, trial, limit");
    fs::write(&path, r#"{"format":"ringload-capacity","version":1}"#).unwrap();
    let error = write(&request).unwrap_err().to_string();
    assert!(
        error.contains("is a result of find-max that cannot be read"),
        "{error}"
    );
}

#[test]
fn a_run_that_did_not_take_place_has_no_numbers() {
    let mut failed = run("ringmq", 0, 1.0);
    failed.run.ended = Ended::Failed;
    failed.validity.valid = false;
    failed.validity.reasons = vec![Reason {
        check: Check::Failed,
        text: "127.0.0.1:1: connection refused".to_owned(),
    }];
    failed.totals = Totals::default();
    failed.groups = Vec::new();
    failed.qos = Vec::new();
    failed.timeline = Vec::new();
    failed.broker = None;
    let page = page_of(vec![failed.clone()]);
    for expected in [
        "The run did not take place.",
        "<b>Did not take place</b>",
        "127.0.0.1:1: connection refused",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    for wrong in [
        "once and in order",
        "machine was at fault",
        "0/s",
        "clients/s",
    ] {
        assert!(!page.contains(wrong), "{wrong}");
    }
    let page = page_of(vec![failed, run("ringmq", 0, 1.0)]);
    for expected in [
        "1 of 2 runs did not take place; every delivery of the others arrived once and in order.",
        "connection refused",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn plots_of_a_scenario_over_time_have_one_cursor() {
    let page = page_of(vec![run("ringmq", 0, 1.0), run("other", 0, 2.0)]);
    let cursors = page.matches(r#"data-cursor="pairs-qos-0""#).count();
    assert_eq!(cursors, 5, "load, rate, p99, CPU, memory");
}

#[test]
fn what_files_say_is_text_and_not_markup() {
    let page = page_of(vec![run("<script>x</script>", 0, 1.0), run("a\"b", 0, 1.0)]);
    assert!(!page.contains("<script>x"));
    assert!(page.contains("&lt;script&gt;x"));
}

/// Results of earlier versions have secrets in them.
#[test]
fn no_secret_of_an_older_result_is_shown() {
    let mut old = run("ringmq", 0, 1.0);
    old.run.command = ["ringload", "run", "--password", "S3cret", "pairs"]
        .map(str::to_owned)
        .to_vec();
    old.run.scenario.toml = "[connect]\npassword = \"S3cret\"\n".to_owned();
    if let Some(broker) = &mut old.broker {
        broker.command = "mosquitto --password S3cret".to_owned();
    }
    let page = page_of(vec![old]);
    assert!(page.contains("[connect]"), "the scenario is shown");
    assert!(!page.contains("S3cret"));
}

#[test]
fn files_and_folders_become_a_page_and_plots() {
    let folder = Folder::new("write");
    let raw = folder.0.join("raw/round-1");
    fs::create_dir_all(&raw).unwrap();
    for (name, file) in [("a", run("ringmq", 0, 1.0)), ("b", run("other", 0, 5.0))] {
        fs::write(raw.join(format!("{name}.json")), file.to_json()).unwrap();
    }
    fs::write(raw.join("a.log"), "not a result").unwrap();
    let plan = raw.join("plan.json");
    fs::write(&plan, r#"{"format":"ringload-plan","version":1}"#).unwrap();
    let request = Request {
        files: vec![folder.0.join("raw")],
        page: folder.0.join("page.html"),
        svg: Some(folder.0.join("plots")),
        title: Some("A title".to_owned()),
    };
    let written = write(&request).unwrap();
    assert_eq!((written.runs, written.scenarios), (2, 1));
    assert_eq!(written.skipped, std::slice::from_ref(&plan));
    let named = Request {
        files: vec![plan],
        ..request.clone()
    };
    let error = write(&named).unwrap_err().to_string();
    assert!(error.contains("plan.json"), "{error}");
    let page = fs::read_to_string(&request.page).unwrap();
    assert!(page.contains("<h1>A title</h1>"));
    let svg = fs::read_to_string(folder.0.join("plots/pairs-qos-0-latency.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("<style>") && svg.ends_with("</svg>\n"));
    assert_eq!(
        fs::read_dir(folder.0.join("plots")).unwrap().count(),
        written.plots
    );
}

#[test]
fn a_file_that_is_no_result_is_named() {
    let folder = Folder::new("error");
    let path = folder.0.join("x.json");
    fs::write(&path, "{}").unwrap();
    let request = |files| Request {
        files,
        page: folder.0.join("page.html"),
        svg: None,
        title: None,
    };
    let error = write(&request(vec![path.clone()])).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: ", path.display())),
        "{error}"
    );
    assert!(error.contains("not a result file of ringload"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = write(&request(vec![folder.0.clone()]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("contains no result file"), "{error}");
    let gone = folder.0.join("gone.json");
    let error = write(&request(vec![gone.clone()])).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: ", gone.display())),
        "{error}"
    );
}
