//! The result file is read back as it was written, and a file of another kind is refused.

use std::path::{Path, PathBuf};

use ringload::report::ResultFile;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/examples")
        .join(name)
}

#[test]
fn a_result_that_was_read_is_written_as_it_was() {
    for name in ["first.json", "second.json"] {
        let path = example(name);
        let result = ResultFile::read(&path).unwrap();
        let value: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let again: serde_json::Value = serde_json::from_str(&result.to_json()).unwrap();
        assert_eq!(again, value, "{name}");
    }
}

#[test]
fn a_file_that_is_no_result_says_so() {
    let directory = std::env::temp_dir().join(format!("ringload-result-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (text, expected) in [
        ("nonsense", "is not a result file of ringload"),
        ("{}", "is not a result file of ringload"),
        (
            r#"{"format":"ringload-result","version":999}"#,
            "has format ringload-result 999",
        ),
    ] {
        let path = directory.join("x.json");
        std::fs::write(&path, text).unwrap();
        let error = ResultFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
