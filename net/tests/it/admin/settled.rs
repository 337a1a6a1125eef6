//! Settings and the log of a running broker: reload, a look at a file, another filter.

use serde_json::json;

use super::*;
use crate::mqtt::Client;

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn another_filter_of_the_log_holds_at_once_and_for_a_while() {
    let mut place = Place::new();
    let info = json!({"filter": "info", "configured": "info", "for_s": null});
    assert_eq!(place.get("/api/v1/log").json(), info);
    for (order, status) in [
        ("{}", 422),
        (r#"{"filter": "info,,=x=y"}"#, 422),
        (r#"{"filter": "debug", "for": 0}"#, 422),
        (r#"{"filter": "debug", "for": 604801}"#, 422),
    ] {
        let answer = place.ask("PUT", "/api/v1/log", JSON, order);
        assert_eq!(answer.status, status, "{order}: {answer:?}");
    }
    let order = r#"{"filter": "info,ringmq::packets=debug", "for": 600}"#;
    let set = place.ask("PUT", "/api/v1/log", JSON, order).json();
    assert_eq!(set["filter"], "info,ringmq::packets=debug");
    assert!(
        set["for_s"].as_u64().is_some_and(|left| left > 500),
        "{set}"
    );
    let mut client = Client::open(place.broker.socket(), "meter");
    client.publish("a/b", b"hello");
    let line = place.broker.wait_for("publish client=meter");
    assert!(line.contains("topic=a/b"), "{line}");
    let shown = stdout(&place.ctl(&["log", "show"]));
    assert!(
        shown.starts_with("info,ringmq::packets=debug, for "),
        "{shown}"
    );
    // The one of the settings comes back.
    let shown = stdout(&place.ctl(&["log", "set", "debug", "--for", "1s"]));
    assert!(shown.starts_with("debug, for "), "{shown}");
    place
        .broker
        .wait_for("the log filter is that of the settings again");
    assert_eq!(stdout(&place.ctl(&["log", "show"])), "info\n");
}

#[test]
fn a_reload_is_asked_for_and_answered() {
    let folder = Folder::new();
    let line = |name: &str| line_of(name, "operator", &format!("t-{name}"));
    let tokens = folder.write("tokens", &line("ada"));
    let file = |filter: &str| {
        format!("[log]\nfilter = \"{filter}\"\n[admin]\ntoken_file = [\"{tokens}\"]\n")
    };
    let config = folder.write("ringmq.toml", &file("info"));
    let socket = folder.path("admin.sock");
    let unix = format!("unix:{socket}");
    let given = [
        "--config",
        &config,
        "--admin",
        &unix,
        "--admin",
        "127.0.0.1:0",
    ];
    let mut broker = Broker::start(&given);
    broker.wait_for("control plane"); // That of the socket.
    let address = tcp_address(&mut broker);
    let place = Place {
        folder,
        broker,
        socket,
    };
    let status = |token: &str| {
        let headers = format!("Host: {address}\r\nAuthorization: Bearer {token}\r\n");
        over_tcp(address, "GET", "/api/v1/broker", &headers)
    };
    assert_eq!((status("t-ada"), status("t-bob")), (200, 401));
    place.folder.write("tokens", &line("bob"));
    place
        .folder
        .write("ringmq.toml", &file("warn,ringmq::admin=info"));
    let shown = stdout(&place.ctl(&["reload"]));
    assert_eq!(shown, "reloaded\nlog.filter has taken effect\n");
    assert_eq!((status("t-ada"), status("t-bob")), (401, 200));
    let log = place.get("/api/v1/log").json();
    assert_eq!(
        (&log["filter"], &log["filter"]),
        (&log["configured"], &json!("warn,ringmq::admin=info"))
    );
    // A filter that was chosen meanwhile ends, though the one of the settings is the same.
    place.ctl(&["log", "set", "debug"]);
    assert_eq!(place.get("/api/v1/log").json()["filter"], "debug");
    stdout(&place.ctl(&["reload"]));
    assert_eq!(place.get("/api/v1/log").json(), log);
    // What cannot be used changes nothing.
    place.folder.write("tokens", "nonsense");
    let failed = place.ask("POST", "/api/v1/reload", JSON, "{}");
    assert_eq!(failed.status, 409, "{failed:?}");
    assert!(
        failed.body.contains("is not NAME:ROLE:SHA256"),
        "{failed:?}"
    );
    assert_eq!(status("t-bob"), 200);
}

#[test]
fn a_reload_that_waits_for_its_files_keeps_nobody_else_waiting() {
    let folder = Folder::new();
    let tokens = folder.write("tokens", &line_of("ada", "operator", "t-ada"));
    let socket = folder.path("admin.sock");
    let admin = format!("unix:{socket}");
    let broker = Broker::start(&["--admin", &admin, "--admin-token-file", &tokens]);
    // Written to by a clock that is ahead: nobody can know whether that goes on.
    let file = fs::File::options().write(true).open(&tokens).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    let mut place = Place {
        folder,
        broker,
        socket,
    };
    let reload = request("POST", "/api/v1/reload", JSON, "{}");
    let check = request("POST", "/api/v1/config/check", JSON, r#"{"toml": ""}"#);
    // It waits for a second: on a machine that stands still for so long it may be the first one all the same.
    let is_last = (0..5).any(|_| {
        let mut stream = UnixStream::connect(&place.socket).unwrap();
        stream.write_all(reload.as_bytes()).unwrap();
        let waits = "the reload waits until no file has changed";
        place.broker.wait_for(waits);
        stream.set_nonblocking(true).unwrap();
        let checked = place.raw(&check);
        assert!(checked.starts_with("HTTP/1.1 200"), "{checked}");
        let is_last = stream.read(&mut [0]).is_err();
        stream.set_nonblocking(false).unwrap();
        let mut reloaded = String::new();
        stream.read_to_string(&mut reloaded).unwrap();
        assert!(
            is_last == reloaded.starts_with("HTTP/1.1 200"),
            "{reloaded}"
        );
        is_last
    });
    assert!(is_last);
    assert_eq!(place.broker.stop().0, Some(0));
}

#[test]
fn a_file_is_looked_at_and_nothing_changes() {
    let place = Place::new();
    let check = |toml: &str| {
        let order = json!({"toml": toml}).to_string();
        let answer = place.ask("POST", "/api/v1/config/check", JSON, &order);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let good = check("[log]\nfilter = \"debug\"\n[limits]\nsubscriptions_max = 7\n");
    assert_eq!(
        (&good["valid"], &good["changes"], &good["needs_restart"]),
        (
            &json!(true),
            &json!(["log.filter"]),
            &json!(["limits.subscriptions_max"])
        )
    );
    let bad = check("[limits]\nsubscriptions_max = -1\nsubscription_max = 7\n");
    assert_eq!(bad["valid"], false);
    let problems = bad["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{bad}");
    assert!(
        problems[0]["what"]
            .as_str()
            .unwrap()
            .contains("subscriptions_max")
    );
    assert_eq!(place.get("/api/v1/log").json()["filter"], "info");
    let file = place
        .folder
        .write("x.toml", "[limits]\nsubscriptions_max = \"x\"\n");
    let output = place.ctl(&["config", "check", &file]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = format!("{file}:2:21: limits.subscriptions_max");
    assert!(shown.starts_with(&line), "{shown}");
    assert!(
        shown.contains("  2 | subscriptions_max = \"x\"\n    | "),
        "{shown}"
    );
    assert!(shown.contains("  fix: "), "{shown}");
    let shown = stdout(&place.ctl(&["config", "show"]));
    assert!(
        shown.starts_with("network.listen") || shown.contains("runtime.shards"),
        "{shown}"
    );
}
