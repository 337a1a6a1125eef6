//! The settings of section `[jwt]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ringmq::auth::http::HttpUrl;
use ringmq::auth::jwt::{Algorithm, Claim, JwtConfig, RemoteConfig, TokenField};

use super::value::{Items, Kind, Value};
use super::{IN_RANGE, MINUTE_MS, Setting, files, paths, range, to_paths};

/// Which tokens are taken, and what they are proven by.
#[derive(Clone, Debug, Default)]
pub struct JwtSettings {
    /// Keys in files of their own.
    pub keys: Vec<KeyFile>,
    /// JWK Sets.
    pub jwks_files: Vec<PathBuf>,
    /// JWK Sets on the network.
    pub jwks_urls: Vec<String>,
    /// How these are fetched.
    pub fetch: FetchSettings,
    /// What tokens have to be.
    pub config: JwtConfig,
}

impl JwtSettings {
    /// Tokens are taken.
    pub fn is_on(&self) -> bool {
        !(self.keys.is_empty() && self.jwks_files.is_empty() && self.jwks_urls.is_empty())
    }

    /// The JWK Sets on the network.
    pub fn remotes(&self) -> impl Iterator<Item = RemoteConfig> {
        let fetch = &self.fetch;
        self.jwks_urls.iter().map(|url| RemoteConfig {
            url: HttpUrl::parse(url).expect("a list of URLs was checked"),
            cas: fetch.cas.clone(),
            refresh: fetch.refresh,
            timeout: fetch.timeout,
            stale_max: fetch.stale_max,
        })
    }

    /// Files of keys that sign as well as prove.
    pub fn secret_files(&self) -> impl Iterator<Item = &PathBuf> {
        let secrets = self.keys.iter().filter(|key| key.algorithm.is_secret());
        secrets.map(|key| &key.path)
    }

    /// All files that these settings name.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let keys = self.keys.iter().map(|key| &key.path);
        keys.chain(&self.jwks_files).chain(&self.fetch.cas)
    }
}

/// How JWK Sets on the network are fetched.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// CAs that their servers have to come from.
    pub cas: Vec<PathBuf>,
    /// How often.
    pub refresh: Duration,
    /// Time for one answer.
    pub timeout: Duration,
    /// How old keys may get.
    pub stale_max: Duration,
}

impl Default for FetchSettings {
    fn default() -> FetchSettings {
        FetchSettings {
            cas: Vec::new(),
            refresh: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(5),
            stale_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// A file with one key: `ALGORITHM:FILE`, or `ALGORITHM@KID:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The one algorithm of the key.
    pub algorithm: Algorithm,
    /// Its name in tokens; `None`: it is tried for all.
    pub kid: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = String;

    /// The error is what is wrong with it.
    fn from_str(text: &str) -> Result<KeyFile, String> {
        let Some((head, path)) = text.split_once(':').filter(|(_, path)| !path.is_empty()) else {
            return Err("which names no algorithm or no file".to_owned());
        };
        let (name, kid) = match head.split_once('@') {
            Some((_, "")) => return Err("which names no key behind the @".to_owned()),
            Some((name, kid)) => (name, Some(kid.to_owned())),
            None => (head, None),
        };
        let algorithm = Algorithm::named(name).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            format!("whose algorithm is none of {names}")
        })?;
        Ok(KeyFile {
            algorithm,
            kid,
            path: path.into(),
        })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        if let Some(kid) = &self.kid {
            write!(f, "@{kid}")?;
        }
        write!(f, ":{}", self.path.display())
    }
}

/// A row for the place of something among the claims.
macro_rules! claim {
    ($key:literal, $flag:literal, $field:ident, $help:literal) => {
        Setting {
            section: "jwt",
            key: $key,
            flag: $flag,
            kind: Kind::Text,
            auto: None,
            help: $help,
            get: |settings| Value::Text(settings.auth.jwt.config.demands.$field.0.clone()),
            set: |settings, value| {
                settings.auth.jwt.config.demands.$field = Claim(value.text());
            },
        }
    };
}

/// A row for names of which one has to stand in a token.
macro_rules! names {
    ($key:literal, $flag:literal, $field:ident, $help:literal) => {
        Setting {
            section: "jwt",
            key: $key,
            flag: $flag,
            kind: Kind::List(Items::Texts),
            auto: None,
            help: $help,
            get: |settings| Value::List(settings.auth.jwt.config.demands.$field.clone()),
            set: |settings, value| settings.auth.jwt.config.demands.$field = value.list(),
        }
    };
}

/// A row for something that is asked of tokens or not.
macro_rules! switch {
    ($key:literal, $flag:literal, $field:ident, $help:literal) => {
        Setting {
            section: "jwt",
            key: $key,
            flag: $flag,
            kind: Kind::Switch,
            auto: None,
            help: $help,
            get: |settings| Value::Switch(settings.auth.jwt.config.demands.$field),
            set: |settings, value| settings.auth.jwt.config.demands.$field = value.switch(),
        }
    };
}

/// A row for a time in seconds.
macro_rules! seconds {
    ($key:literal, $flag:literal, $field:ident, $range:expr, $help:literal) => {
        Setting {
            section: "jwt",
            key: $key,
            flag: $flag,
            kind: Kind::Seconds($range),
            auto: None,
            help: $help,
            get: |settings| Value::Number(settings.auth.jwt.fetch.$field.as_secs()),
            set: |settings, value| {
                settings.auth.jwt.fetch.$field = Duration::from_secs(value.number());
            },
        }
    };
}

/// The words of [`TokenField`], in its order.
const TOKEN_FIELDS: &[&str] = &["password", "user_name"];

/// The rows.
pub const ROWS: &[Setting] = &[
    Setting {
        section: "jwt",
        key: "keys",
        flag: "jwt-key",
        kind: Kind::List(Items::Keys),
        auto: None,
        help: "Keys of issuers, each for one algorithm: `ALGORITHM:FILE`, or `ALGORITHM@KID:FILE` \
               for tokens with that key ID. The file holds a public key or certificate in PEM \
               (RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA), or a secret \
               (HS256, HS384, HS512) on a single line.",
        get: |settings| {
            let keys = settings.auth.jwt.keys.iter();
            Value::List(keys.map(ToString::to_string).collect())
        },
        set: |settings, value| {
            let parse = |text: String| text.parse().expect("a list of keys was checked");
            settings.auth.jwt.keys = value.list().into_iter().map(parse).collect();
        },
    },
    files!(
        "jwt",
        "jwks_file",
        "jwks-file",
        auth.jwt.jwks_files,
        "Keys of issuers as a JWK Set. `alg` gives the algorithm of a key; RSA keys without it are \
         for RS256."
    ),
    Setting {
        section: "jwt",
        key: "jwks_url",
        flag: "jwks-url",
        kind: Kind::List(Items::Urls),
        auto: None,
        help: "URL of a JWK Set, https or http. While there are no keys, or only outdated ones, \
               clients get \"server unavailable\". Secrets in it are ignored.",
        get: |settings| Value::List(settings.auth.jwt.jwks_urls.clone()),
        set: |settings, value| settings.auth.jwt.jwks_urls = value.list(),
    },
    files!(
        "jwt",
        "jwks_ca",
        "jwks-ca",
        auth.jwt.fetch.cas,
        "CA certificates (PEM) trusted for the servers of `jwks_url`, or the servers' own \
         certificates. Default: the CAs of the system."
    ),
    seconds!(
        "jwks_refresh",
        "jwks-refresh",
        refresh,
        range(10, 7 * 24 * 3600),
        "How often keys are fetched from `jwks_url`. A token with an unknown key ID also triggers \
         a fetch, at most every 10 s."
    ),
    Setting {
        section: "jwt",
        key: "jwks_timeout",
        flag: "jwks-timeout",
        kind: Kind::Millis(range(100, MINUTE_MS)),
        auto: None,
        help: "Timeout of a fetch.",
        get: |settings| {
            let millis = settings.auth.jwt.fetch.timeout.as_millis();
            Value::Number(millis.try_into().expect(IN_RANGE))
        },
        set: |settings, value| {
            settings.auth.jwt.fetch.timeout = Duration::from_millis(value.number());
        },
    },
    seconds!(
        "jwks_stale_max",
        "jwks-stale-max",
        stale_max,
        range(60, 365 * 24 * 3600),
        "How long keys stay valid if they cannot be fetched again."
    ),
    Setting {
        section: "jwt",
        key: "token_in",
        flag: "jwt-in",
        kind: Kind::Choice(TOKEN_FIELDS),
        auto: None,
        help: "Which field of CONNECT holds the token. Anything else in it is treated as a \
               password. MQTT 5.0 clients can also use the authentication method JWT, and send the \
               next token by AUTH.",
        get: |settings| {
            Value::Text(TOKEN_FIELDS[settings.auth.jwt.config.field as usize].to_owned())
        },
        set: |settings, value| {
            settings.auth.jwt.config.field = match value.text().as_str() {
                "user_name" => TokenField::UserName,
                _ => TokenField::Password,
            };
        },
    },
    Setting {
        section: "jwt",
        key: "token_size_max",
        flag: "jwt-size-max",
        kind: Kind::Size(range(256, 65_535)),
        auto: None,
        help: "Maximum size of a token.",
        get: |settings| Value::Number(settings.auth.jwt.config.size_max as u64),
        set: |settings, value| {
            settings.auth.jwt.config.size_max = value.number().try_into().expect(IN_RANGE);
        },
    },
    names!(
        "issuers",
        "jwt-issuer",
        issuers,
        "Accepted values of `iss`. Default: any; the key alone decides."
    ),
    names!(
        "audiences",
        "jwt-audience",
        audiences,
        "Accepted values of `aud`. Default: none; tokens with an `aud` are refused."
    ),
    Setting {
        section: "jwt",
        key: "leeway",
        flag: "jwt-leeway",
        kind: Kind::Seconds(range(0, 300)),
        auto: None,
        help: "Tolerated difference between clocks. Connections end this long after `exp`.",
        get: |settings| Value::Number(settings.auth.jwt.config.demands.leeway.as_secs()),
        set: |settings, value| {
            let leeway = Duration::from_secs(value.number());
            settings.auth.jwt.config.demands.leeway = leeway;
        },
    },
    switch!(
        "expiry_required",
        "jwt-expiry-required",
        expiry_required,
        "Refuse tokens without `exp`, which would never expire."
    ),
    claim!(
        "user_claim",
        "jwt-user-claim",
        user,
        "The claim with the user name: a name, or a JSON Pointer such as `/mqtt/user` to a nested \
         one. Tokens without it are refused."
    ),
    switch!(
        "user_name_checked",
        "jwt-user-name-checked",
        user_name_checked,
        "Refuse tokens if CONNECT has a different user name. An empty one is ignored."
    ),
    claim!(
        "client_id_claim",
        "jwt-client-id-claim",
        client_id,
        "The claim that the client identifier has to equal; empty: not checked."
    ),
    claim!(
        "publish_claim",
        "jwt-publish-claim",
        publish,
        "The claim with a list of topic filters that the client may publish to; %u and %c stand \
         for user name and client identifier. If a token has one of these five claims, whatever \
         neither they nor the rule files allow is denied; denials win."
    ),
    claim!(
        "subscribe_claim",
        "jwt-subscribe-claim",
        subscribe,
        "The same for what the client may receive."
    ),
    claim!(
        "deny_claim",
        "jwt-deny-claim",
        deny,
        "The same for what it may neither publish nor receive."
    ),
    claim!(
        "deny_publish_claim",
        "jwt-deny-publish-claim",
        deny_publish,
        "The same for what it may not publish."
    ),
    claim!(
        "deny_subscribe_claim",
        "jwt-deny-subscribe-claim",
        deny_subscribe,
        "The same for what it may not receive."
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_shown() {
        for text in ["RS256:/a b", "EdDSA@k-1:/a:b@c", "HS512:x"] {
            let key: KeyFile = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        for text in [
            "",
            "RS256",
            "RS256:",
            "none:/a",
            "rs256:/a",
            "RS256@:/a",
            ":/a",
            "/a.pem",
        ] {
            assert!(text.parse::<KeyFile>().is_err(), "{text}");
        }
    }
}
