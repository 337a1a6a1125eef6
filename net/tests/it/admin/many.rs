//! Many clients at once, through HTTP and `ringmq ctl`.

use serde_json::json;

use super::*;
use crate::mqtt::Client;

const JSON: &str = "Content-Type: application/json\r\n";

fn last_line(answer: &Answered) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(answer.body.lines().last().unwrap()).unwrap()
}

#[test]
fn clients_are_disconnected_and_sessions_ended_by_what_they_have_in_common() {
    let place = Place::new();
    let ids = ["a1", "a2", "a3", "b1", "b2"];
    let _clients: Vec<_> = ids
        .iter()
        .map(|id| Client::open(place.broker.socket(), id))
        .collect();
    let disconnect = |order: &str| place.ask("POST", "/api/v1/clients/disconnect", JSON, order);
    let connected = || place.get("/api/v1/broker").json()["sessions_connected"].clone();
    for order in [
        "{}",
        r#"{"prefix": ""}"#,
        r#"{"will": false}"#,
        r#"{"address": "x"}"#,
    ] {
        assert_eq!(disconnect(order).status, 422, "{order}");
    }
    let found = last_line(&disconnect(r#"{"prefix": "a", "dry_run": true}"#));
    assert_eq!(found, json!({"would_disconnect": 3, "missing_shards": []}));
    assert_eq!(connected(), 5);
    let done = last_line(&disconnect(r#"{"prefix": "a", "rate": 100}"#));
    assert_eq!(done, json!({"disconnected": 3, "missing_shards": []}));
    assert_eq!(connected(), 2);
    let delete = |order: &str| place.ask("POST", "/api/v1/sessions/delete", JSON, order);
    assert_eq!(delete("{}").status, 422);
    let none = last_line(&delete(r#"{"prefix": "b", "address": "127.0.0.2"}"#));
    assert_eq!(none["deleted"], 0);
    let done = last_line(&delete(r#"{"all": true}"#));
    assert_eq!(done, json!({"deleted": 2, "missing_shards": []}));
    assert_eq!(place.get("/api/v1/broker").json()["sessions"], 0);
}

#[test]
fn ctl_asks_before_it_disconnects_many() {
    let place = Place::new();
    let _clients: Vec<_> = ["a1", "a2"]
        .iter()
        .map(|id| Client::open(place.broker.socket(), id))
        .collect();
    let said = |args: &[&str]| {
        let output = place.ctl(args);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let many = ["clients", "disconnect", "--prefix", "a"];
    let (code, text) = said(&many);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("this would disconnect 2 clients"), "{text}");
    let (_, text) = said(&[&many[..], &["--dry-run"]].concat());
    assert_eq!(text, "2 clients would be disconnected\n");
    let (_, text) = said(&[&many[..], &["--yes"]].concat());
    assert_eq!(text, "2 clients disconnected\n");
    for args in [
        &["clients", "disconnect"][..],
        &["clients", "disconnect", "a1", "--all"],
        &["sessions", "delete"],
    ] {
        assert_eq!(said(args).0, Some(2), "{args:?}");
    }
    let (_, text) = said(&["sessions", "delete", "--all", "--yes"]);
    assert_eq!(text, "0 sessions deleted\n");
}

#[test]
fn clients_and_topics_of_the_names_of_verbs_are_found() {
    let place = Place::new();
    let _client = Client::open(place.broker.socket(), "disconnect");
    let _other = Client::open(place.broker.socket(), "delete");
    assert_eq!(
        place.get("/api/v1/clients/disconnect").json()["client_id"],
        "disconnect"
    );
    let ended = place.ask("DELETE", "/api/v1/sessions/delete", JSON, "");
    assert_eq!(ended.json(), json!({"deleted": "delete"}));
    assert_eq!(place.get("/api/v1/retained/delete").status, 404);
}
