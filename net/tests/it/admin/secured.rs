//! The control plane over TLS.

use super::*;

#[test]
fn over_tls_a_client_that_knows_the_ca_is_served() {
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = folder.write("server.pem", &made.cert.pem());
    let key = folder.write("server.key", &made.signing_key.serialize_pem());
    let tokens = folder.write("tokens", &line_of("ada", "operator", "t-ada"));
    let token = folder.write("token", "t-ada\n");
    let mut broker = Broker::start(&[
        "--admin",
        "0.0.0.0:0",
        "--admin-token-file",
        &tokens,
        "--admin-certificate",
        &certificate,
        "--admin-key",
        &key,
    ]);
    let line = broker.wait_for("control plane");
    let port = line.rsplit(':').next().unwrap().trim().trim_matches('"');
    assert!(line.contains("https://0.0.0.0:"), "{line}");
    let ctl = |to: &str, more: &[&str]| {
        let mut command = Command::new(RINGMQ);
        command.args(["ctl", "--to", &format!("{to}:{port}"), "--token", &token]);
        command.args(more).arg("status").output().unwrap()
    };
    let shown = stdout(&ctl("https://localhost", &["--ca", &certificate]));
    assert!(shown.contains(", ready\n"), "{shown}");
    for (to, more) in [
        ("https://localhost", &[][..]),
        ("https://127.0.0.1", &["--ca", &certificate]),
        ("http://localhost", &[]),
    ] {
        let output = ctl(to, more);
        assert_eq!(output.status.code(), Some(1), "{to} {more:?}: {output:?}");
    }
}

#[test]
fn without_tls_other_machines_are_not_served_unless_somebody_says_so() {
    let folder = Folder::new();
    let tokens = folder.write("tokens", &line_of("ada", "operator", "t-ada"));
    let start = |more: &[&str]| {
        let mut command = Command::new(RINGMQ);
        command.args([
            "--admin",
            "0.0.0.0:0",
            "--admin-token-file",
            &tokens,
            "--check-config",
        ]);
        let output = command.args(more).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = start(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("there is no TLS") && said.contains("--admin-allow-plain"),
        "{said}"
    );
    let (code, said) = start(&["--admin-certificate", "x"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("1 certificates and 0 keys"), "{said}");
    assert_eq!(start(&["--admin-allow-plain"]).0, Some(0));
}

#[test]
fn connections_that_say_nothing_make_place_for_others() {
    let place = Place::new();
    let _silent: Vec<UnixStream> = (0..40)
        .map(|_| UnixStream::connect(&place.socket).unwrap())
        .collect();
    assert_eq!(place.get("/livez").status, 200);
    assert_eq!(place.get("/api/v1/broker").status, 200);
}
