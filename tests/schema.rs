//! The public JSON schema in `docs/schema` is the one that the types give, and its examples are real messages.

use std::fs;
use std::path::PathBuf;

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::Value;
use sightline::sink::message::{ClientMessage, ServerMessage};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/schema")
}

fn schema<T: JsonSchema>(contract: Contract, title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.contract = contract);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), title.into());
    schema
}

/// Compares the file with what the types say today; with `UPDATE_SCHEMA=1` writes it.
fn hold(file: &str, schema: &Schema) {
    let path = folder().join(file);
    let now = serde_json::to_string_pretty(schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == now,
        "docs/schema/{file} is not what the types say; if the change is meant, write it with `UPDATE_SCHEMA=1 cargo \
         nextest run --test schema` and say in CHANGELOG.md what changes for clients"
    );
}

#[test]
fn the_servers_messages_are_the_documented_ones() {
    let title = "Sightline schema 1: what the server says";
    hold("server.schema.json", &schema::<ServerMessage<'static>>(Contract::Serialize, title));
}

#[test]
fn the_clients_messages_are_the_documented_ones() {
    let title = "Sightline schema 1: what a client says";
    hold("client.schema.json", &schema::<ClientMessage>(Contract::Deserialize, title));
}

/// The JSON blocks of the page whose fence says `json` and the given word.
fn examples(direction: &str) -> Vec<String> {
    let page = fs::read_to_string(folder().join("README.md")).unwrap();
    let fence = format!("```json {direction}\n");
    page.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

#[test]
fn the_servers_examples_read_and_write_back_the_same() {
    let mut kinds = Vec::new();
    for example in examples("server") {
        let message: ServerMessage<'static> =
            serde_json::from_str(&example).unwrap_or_else(|error| panic!("{error}: {example}"));
        let given: Value = serde_json::from_str(&example).unwrap();
        let written: Value = serde_json::from_str(&message.to_json()).unwrap();
        assert_eq!(written, given, "an example has a field that no message has");
        kinds.push(given["type"].as_str().unwrap().to_owned());
    }
    for kind in ["detections", "frame", "config_ack", "error", "pong"] {
        assert!(kinds.iter().any(|seen| seen == kind), "no example of `{kind}`");
    }
}

#[test]
fn the_clients_examples_are_accepted() {
    let examples = examples("client");
    assert!(examples.len() >= 2, "the page has lost its examples");
    for example in examples {
        ClientMessage::parse(&example).unwrap_or_else(|error| panic!("{error}: {example}"));
    }
}
