//! `GET /openapi.json` describes what the control plane answers: all of it, and as it is.

use serde_json::Map;

use super::*;
use crate::mqtt::{Client, old_publish_packet};

const JSON: &str = "Content-Type: application/json\r\n";

fn document(place: &Place) -> Value {
    let answer = place.get("/openapi.json");
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    document
}

fn paths(document: &Value) -> &Map<String, Value> {
    document["paths"].as_object().unwrap()
}

/// A path with names in place of its parameters.
fn sample(path: &str) -> String {
    let part = |part: &str| match part {
        "{id}" => "c".to_owned(),
        "{topic}" => "t".to_owned(),
        "{trace}" => "77".to_owned(),
        other => {
            assert!(!other.starts_with('{'), "{path}");
            other.to_owned()
        }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A path that stands for another one.
fn fits(template: &str, path: &str) -> bool {
    let parts: Vec<_> = template.split('/').collect();
    let others: Vec<_> = path.split('/').collect();
    let is_same = |(part, other): (&&str, &&str)| part.starts_with('{') || part == other;
    parts.len() == others.len() && parts.iter().zip(&others).all(is_same)
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let place = Place::new();
    let document = document(&place);
    let mut count = 0;
    for path in paths(&document).keys() {
        for verb in ["get", "post", "put", "delete"] {
            let is_described = paths(&document).iter().any(|(template, verbs)| {
                fits(template, &sample(path)) && verbs.get(verb).is_some()
            });
            let is_stream = path == "/api/v1/live";
            if is_described && is_stream {
                continue;
            }
            // What is not JSON is refused by what answers.
            let answer = place.ask(&verb.to_uppercase(), &sample(path), JSON, "x");
            assert_eq!(
                answer.status != 405,
                is_described,
                "{verb} {path}: {answer:?}"
            );
            assert!(answer.status < 500, "{verb} {path}: {answer:?}");
            count += usize::from(is_described);
        }
    }
    assert!(count >= 35, "{count} routes");
}

#[test]
fn every_parameter_is_described_and_taken() {
    let place = Place::new();
    let document = document(&place);
    let mut count = 0;
    for (path, verbs) in paths(&document) {
        let Some(operation) = verbs.get("get").filter(|_| path != "/api/v1/live") else {
            continue;
        };
        let parameters = operation["parameters"].as_array().unwrap();
        let in_query = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query");
        for parameter in in_query.clone() {
            let name = parameter["name"].as_str().unwrap();
            let query = format!("?{name}={}", value_of(&parameter["schema"], name));
            // Some cannot stand alone.
            let query = match path.as_str() {
                "/api/v1/explain" if name != "topic" => query + "&topic=t",
                _ => query,
            };
            let query = match (path.as_str(), name) {
                ("/api/v1/subscriptions", "limit" | "cursor") => query + "&topic=t",
                _ => query,
            };
            let answer = place.get(&format!("{}{query}", sample(path)));
            let is_taken = answer.status == 200 || answer.status == 404;
            assert!(is_taken, "{path}{query}: {answer:?}");
            count += 1;
        }
        if in_query.clone().count() > 0 && path != "/readyz" {
            let answer = place.get(&format!("{}?nonsense=1", sample(path)));
            assert_eq!(answer.status, 400, "{path}");
        }
    }
    assert!(count >= 30, "{count} parameters");
}

fn value_of(schema: &Value, name: &str) -> String {
    match (name, schema["type"].as_str()) {
        ("cursor", Some("string")) => "0.0".to_owned(),
        ("address", _) => "127.0.0.1".to_owned(),
        ("reason", _) => "queue_full".to_owned(),
        (_, Some("boolean")) => "true".to_owned(),
        (_, Some("integer")) => "1".to_owned(),
        _ => match schema["enum"].as_array() {
            Some(words) => words[0].as_str().unwrap().to_owned(),
            None => "a".to_owned(),
        },
    }
}

#[test]
fn answers_are_as_they_are_described() {
    let place = Place::new();
    let document = document(&place);
    let mut client = Client::open(place.broker.socket(), "c");
    client.subscribe("t");
    let mut publisher = Client::open(place.broker.socket(), "p");
    publisher.publish("t", b"1");
    let (mut old, code) = place.broker.connect("old", None);
    assert_eq!(code, 0);
    old.write_all(&old_publish_packet("t", b"kept", true))
        .unwrap();
    publisher.publish("u", b"2");
    let trace = r#"{"client": "c"}"#;
    assert_eq!(place.ask("POST", "/api/v1/traces", JSON, trace).status, 200);
    let mut count = 0;
    for (path, verbs) in paths(&document) {
        let Some(operation) = verbs.get("get") else {
            continue;
        };
        let content = &operation["responses"]["200"]["content"];
        let Some(schema) = content["application/json"].get("schema") else {
            continue;
        };
        let query = match path.as_str() {
            "/api/v1/explain" | "/api/v1/subscriptions" => "?topic=t",
            _ => "",
        };
        let path = format!("{}{query}", sample(path));
        let answer = place.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        check(schema, &answer.json(), &path);
        count += 1;
    }
    assert!(count >= 18, "{count} answers");
    let problem = place.get("/api/v1/clients/nobody").json();
    let problems = &document["components"]["responses"]["problem"]["content"];
    check(
        &problems["application/problem+json"]["schema"],
        &problem,
        "a problem",
    );
}

/// As much of JSON Schema as the document uses.
fn check(schema: &Value, value: &Value, place: &str) {
    let types = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        other => panic!("{place}: {other}"),
    };
    let is_fitting = types.iter().any(|name| match *name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        other => panic!("{place}: {other}"),
    });
    assert!(is_fitting, "{place} is {value}, and not {types:?}");
    if let (Some(words), false) = (schema["enum"].as_array(), value.is_null()) {
        assert!(words.contains(value), "{place} is {value}");
    }
    if let (Some(max), Some(number)) = (schema["maximum"].as_u64(), value.as_u64()) {
        assert!(number <= max, "{place} is {value}");
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{place}[{index}]"));
    }
    if let Some(object) = value.as_object() {
        assert_eq!(schema["additionalProperties"], false);
        for (name, value) in object {
            let schema = schema["properties"].get(name);
            let schema = schema.unwrap_or_else(|| panic!("{place} has {name}: not described"));
            check(schema, value, &format!("{place}.{name}"));
        }
        for name in schema["required"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(object.contains_key(name), "{place} lacks {name}");
        }
    }
}
