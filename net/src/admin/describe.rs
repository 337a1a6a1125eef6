//! Routes with what `GET /openapi.json` says of them, and the text of it (OpenAPI 3.1).
//!
//! A route is registered and described in one place, [`Route`], so there is none that is not described.

use std::sync::Arc;

use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};

use super::Control;

/// A route.
#[derive(Clone, Copy)]
pub(super) struct Route {
    path: &'static str,
    verb: Verb,
    about: &'static str,
    query: &'static [Field],
    body: Option<&'static [Field]>,
    answer: Answer,
    register: fn() -> MethodRouter<Arc<Control>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

/// What is answered if all goes well.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Plain text.
    Text,
    /// An object.
    Object(&'static [Field]),
    /// An object; as lines, if these are asked for.
    List(&'static [Field]),
    /// Lines of JSON.
    Lines,
    /// Server-sent events.
    Events,
}

/// A parameter, or a part of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    name: &'static str,
    kind: Kind,
    about: &'static str,
    is_optional: bool,
    is_nullable: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    /// Within these.
    Whole(u64, u64),
    Decimal,
    Flag,
    OneOf(&'static [&'static str]),
    Object(&'static [Field]),
    Objects(&'static [Field]),
    Texts,
    Numbers,
}

/// The routes with this verb.
macro_rules! verbs {
    ($($name:ident $verb:ident)*) => {$(
        /// A route with this verb.
        pub(super) const fn $name(
            path: &'static str,
            about: &'static str,
            register: fn() -> MethodRouter<Arc<Control>>,
        ) -> Route {
            Route {
                path,
                verb: Verb::$verb,
                about,
                query: &[],
                body: None,
                answer: Answer::Text,
                register,
            }
        }
    )*};
}

impl Route {
    verbs!(get Get post Post put Put delete Delete);

    /// With these parameters.
    pub(super) const fn query(self, query: &'static [Field]) -> Route {
        Route { query, ..self }
    }

    /// With such an object.
    pub(super) const fn body(self, fields: &'static [Field]) -> Route {
        Route {
            body: Some(fields),
            ..self
        }
    }

    /// Answers with such an object.
    pub(super) const fn object(self, fields: &'static [Field]) -> Route {
        Route {
            answer: Answer::Object(fields),
            ..self
        }
    }

    /// Answers with such an object, or with lines.
    pub(super) const fn list(self, fields: &'static [Field]) -> Route {
        Route {
            answer: Answer::List(fields),
            ..self
        }
    }

    /// Answers with lines.
    pub(super) const fn lines(self) -> Route {
        Route {
            answer: Answer::Lines,
            ..self
        }
    }

    /// Answers with events.
    pub(super) const fn events(self) -> Route {
        Route {
            answer: Answer::Events,
            ..self
        }
    }

    /// What the rows of a list have, if such an answer has it.
    pub(super) fn row_keys(&self, answer: &[&str], list: &str) -> Option<Vec<&'static str>> {
        let (Answer::Object(fields) | Answer::List(fields)) = self.answer else {
            return None;
        };
        let mut needed = fields.iter().filter(|field| !field.is_optional);
        let is_known = |key: &&str| fields.iter().any(|field| field.name == *key);
        if !needed.all(|field| answer.contains(&field.name)) || !answer.iter().all(is_known) {
            return None;
        }
        let found = fields.iter().find(|field| field.name == list)?;
        let Kind::Objects(row) = found.kind else {
            return None;
        };
        let mut keys: Vec<&'static str> = row.iter().map(|field| field.name).collect();
        keys.sort_unstable();
        Some(keys)
    }

    /// Where it is, and what answers.
    pub(super) fn registered(&self) -> (&'static str, MethodRouter<Arc<Control>>) {
        (self.path, (self.register)())
    }
}

impl Field {
    const fn new(name: &'static str, kind: Kind, about: &'static str) -> Field {
        Field {
            name,
            kind,
            about,
            is_optional: false,
            is_nullable: false,
        }
    }

    /// It may be left out.
    pub(super) const fn optional(self) -> Field {
        Field {
            is_optional: true,
            ..self
        }
    }

    /// It may be null.
    pub(super) const fn or_null(self) -> Field {
        Field {
            is_nullable: true,
            ..self
        }
    }
}

/// A text.
pub(super) const fn text(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Text, about)
}

/// A whole number, not negative.
pub(super) const fn count(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Whole(0, u64::MAX), about)
}

/// A whole number within these.
pub(super) const fn within(
    name: &'static str,
    (min, max): (u64, u64),
    about: &'static str,
) -> Field {
    Field::new(name, Kind::Whole(min, max), about)
}

/// A number.
pub(super) const fn decimal(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Decimal, about)
}

/// True or false.
pub(super) const fn flag(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Flag, about)
}

/// One of these words.
pub(super) const fn one_of(
    name: &'static str,
    words: &'static [&'static str],
    about: &'static str,
) -> Field {
    Field::new(name, Kind::OneOf(words), about)
}

/// An object.
pub(super) const fn object(
    name: &'static str,
    fields: &'static [Field],
    about: &'static str,
) -> Field {
    Field::new(name, Kind::Object(fields), about)
}

/// A list of objects.
pub(super) const fn objects(
    name: &'static str,
    fields: &'static [Field],
    about: &'static str,
) -> Field {
    Field::new(name, Kind::Objects(fields), about)
}

/// A list of texts.
pub(super) const fn texts(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Texts, about)
}

/// A list of whole numbers.
pub(super) const fn numbers(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Numbers, about)
}

/// The document.
pub(super) fn document(routes: &[Route], version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.verb.name()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringmq control plane",
            "version": version,
            "description": "docs/operations.md says more.",
            "license": {"name": "Apache-2.0 OR MIT"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "problem": {
                    "description": "What is wrong, and a fix (RFC 9457)",
                    "content": {"application/problem+json": {"schema": object_schema(PROBLEM)}},
                },
            },
        },
        "security": [{"token": []}, {}],
    })
}

const PROBLEM: &[Field] = &[
    text("title", "The status in words"),
    count("status", "The status"),
    text("detail", "What is wrong"),
    text("fix", "What to do about it"),
    text("ctl", "What to do about it with `ringmq ctl`").optional(),
];

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Put => "put",
            Verb::Delete => "delete",
        }
    }
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let kind = match name {
            "trace" => Kind::Whole(1, u64::MAX),
            _ => Kind::Text,
        };
        Some(parameter(
            &Field::new(name, kind, "Percent-encoded"),
            "path",
        ))
    });
    let in_query = route.query.iter().map(|field| parameter(field, "query"));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut operation = json!({
        "summary": route.about,
        "operationId": format!("{}_{}", route.verb.name(), words.join("_")),
        "parameters": parameters,
        "responses": {
            "200": {"description": route.about, "content": content(route.answer)},
            "default": {"$ref": "#/components/responses/problem"},
        },
    });
    if let Some(fields) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": object_schema(fields)}},
        });
    }
    operation
}

fn parameter(field: &Field, place: &str) -> Value {
    json!({
        "name": field.name,
        "in": place,
        "required": place == "path" || !field.is_optional,
        "description": field.about,
        "schema": schema(field),
    })
}

fn content(answer: Answer) -> Value {
    let text = json!({"schema": {"type": "string"}});
    match answer {
        Answer::Text => json!({"text/plain": text}),
        Answer::Object(fields) => json!({"application/json": {"schema": object_schema(fields)}}),
        Answer::List(fields) => json!({
            "application/json": {"schema": object_schema(fields)},
            "application/x-ndjson": text,
        }),
        Answer::Lines => json!({"application/x-ndjson": text}),
        Answer::Events => json!({"text/event-stream": text}),
    }
}

fn object_schema(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = schema(field);
        schema["description"] = field.about.into();
        properties.insert(field.name.to_owned(), schema);
    }
    let required = fields.iter().filter(|field| !field.is_optional);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn schema(field: &Field) -> Value {
    let mut schema = match field.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Whole(min, u64::MAX) => json!({"type": "integer", "minimum": min}),
        Kind::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Decimal => json!({"type": "number"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
        Kind::Object(fields) => object_schema(fields),
        Kind::Objects(fields) => json!({"type": "array", "items": object_schema(fields)}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Numbers => json!({"type": "array", "items": {"type": "integer", "minimum": 0}}),
    };
    if field.is_nullable {
        schema["type"] = json!([schema["type"], "null"]);
    }
    schema
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    #[test]
    fn a_route_is_described_with_all_that_it_takes_and_answers() {
        const QUERY: &[Field] = &[flag("all", "All of it").optional()];
        const FIELDS: &[Field] = &[text("name", "A name"), count("age", "In years").or_null()];
        let route = Route::get("/api/things/{id}", "A thing", || get(async || ""))
            .query(QUERY)
            .object(FIELDS);
        let document = document(&[route], "1.2");
        let found = &document["paths"]["/api/things/{id}"]["get"];
        assert_eq!(found["operationId"], "get_api_things_id");
        let parameters = found["parameters"].as_array().unwrap();
        let named: Vec<_> = parameters
            .iter()
            .map(|p| {
                (
                    p["name"].as_str().unwrap(),
                    p["in"].as_str().unwrap(),
                    p["required"] == true,
                )
            })
            .collect();
        assert_eq!(named, [("id", "path", true), ("all", "query", false)]);
        let schema = &found["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["name", "age"]));
        assert_eq!(
            schema["properties"]["age"]["type"],
            json!(["integer", "null"])
        );
    }
}
