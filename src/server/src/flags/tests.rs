//! The table against etcd's list of flags, and the reading of command lines and variables.

use std::collections::BTreeSet;

use super::*;

/// Every flag of etcd 3.7, and the `--experimental-*` ones of 3.6, grouped as the contract groups them.
#[rustfmt::skip]
const ETCD_FLAGS: &[&str] = &[
    // Flags operators use.
    "name", "data-dir", "wal-dir", "listen-client-urls", "advertise-client-urls", "listen-peer-urls",
    "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state", "initial-cluster-token",
    "listen-metrics-urls", "listen-client-http-urls", "cert-file", "key-file", "trusted-ca-file", "client-cert-auth",
    "auto-tls", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-auth", "peer-auto-tls",
    "cipher-suites", "tls-min-version", "tls-max-version", "snapshot-count", "heartbeat-interval", "election-timeout",
    "quota-backend-bytes", "auto-compaction-mode", "auto-compaction-retention", "max-request-bytes", "max-txn-ops",
    "max-wals", "max-snapshots", "strict-reconfig-check", "metrics", "log-level", "logger", "log-outputs", "log-format",
    "enable-pprof", "enable-grpc-gateway", "pre-vote", "watch-progress-notify-interval", "corrupt-check-time",
    "compact-hash-check-time", "feature-gates", "auth-token", "auth-token-ttl", "bcrypt-cost", "grpc-keepalive-min-time",
    "grpc-keepalive-interval", "grpc-keepalive-timeout", "max-concurrent-streams", "max-learners", "force-new-cluster",
    "config-file", "version", "help", "h",
    // Rare ones.
    "backend-bbolt-freelist-type", "backend-batch-interval", "backend-batch-limit", "memory-mlock",
    "initial-election-tick-advance", "socket-reuse-port", "socket-reuse-address", "raft-read-timeout",
    "raft-write-timeout", "discovery-endpoints", "discovery-token", "discovery-dial-timeout", "discovery-request-timeout",
    "discovery-keepalive-time", "discovery-keepalive-timeout", "discovery-insecure-transport",
    "discovery-insecure-skip-tls-verify", "discovery-cert", "discovery-key", "discovery-cacert", "discovery-user",
    "discovery-password", "discovery-srv", "discovery-srv-name", "discovery-fallback", "client-cert-file",
    "client-key-file", "client-crl-file", "client-cert-allowed-hostname", "peer-client-cert-file", "peer-client-key-file",
    "peer-crl-file", "peer-cert-allowed-cn", "peer-cert-allowed-hostname", "peer-skip-client-san-verification",
    "self-signed-cert-validity", "cors", "host-whitelist", "enable-log-rotation", "log-rotation-config-json",
    "warning-apply-duration", "warning-unary-request-duration", "compaction-batch-limit", "compaction-sleep-interval",
    "snapshot-catchup-entries", "downgrade-check-time", "bootstrap-defrag-threshold-megabytes",
    "enable-distributed-tracing", "distributed-tracing-address", "distributed-tracing-service-name",
    "distributed-tracing-instance-id", "distributed-tracing-sampling-rate", "unsafe-no-fsync",
    // Deprecated ones, and those that etcd ignores silently.
    "v2-deprecation", "discovery", "discovery-proxy", "cluster-active-size", "cluster-remove-delay",
    "cluster-sync-interval", "config", "force", "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval",
    "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
    // etcd 3.6.
    "experimental-initial-corrupt-check", "experimental-corrupt-check-time", "experimental-compact-hash-check-enabled",
    "experimental-compact-hash-check-time", "experimental-enable-lease-checkpoint",
    "experimental-enable-lease-checkpoint-persist", "experimental-compaction-batch-limit",
    "experimental-compaction-sleep-interval", "experimental-peer-skip-client-san-verification",
    "experimental-watch-progress-notify-interval", "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration", "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-max-learners", "experimental-snapshot-catchup-entries", "experimental-memory-mlock",
    "experimental-txn-mode-write-with-shared-buffer", "experimental-stop-grpc-service-on-defrag",
    "experimental-enable-distributed-tracing", "experimental-distributed-tracing-address",
    "experimental-distributed-tracing-service-name", "experimental-distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate", "experimental-downgrade-check-time",
];

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn settings_with(line: &str, env: &[(&str, &str)]) -> Settings {
    match parse(&words(line), &variables(env)).expect(line) {
        Invocation::Run(settings) => settings,
        other => panic!("{line} asks for {other:?}"),
    }
}

fn settings(line: &str) -> Settings {
    settings_with(line, &[])
}

fn error(line: &str) -> String {
    let error = parse(&words(line), &[]).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn every_flag_of_etcd_is_known() {
    let missing: Vec<_> = ETCD_FLAGS.iter().filter(|name| find(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_table_names_each_flag_once_and_its_defaults_are_valid() {
    let names: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
    assert_eq!(names.len(), FLAGS.len());
    for flag in FLAGS.iter().filter(|flag| !flag.default.is_empty() && !flag.kind.is_bare()) {
        settings(&format!("--{}={}", flag.name, flag.default));
    }
}

#[test]
fn each_twin_has_the_kind_and_default_of_its_flag() {
    for flag in FLAGS {
        if let Some(twin) = experimental_twin(flag.name) {
            assert_eq!((flag.kind, flag.default), (twin.kind, twin.default), "{}", flag.name);
        }
    }
}

#[test]
fn all_spellings_of_a_value_are_read() {
    for line in ["--name=x", "--name x", "-name=x", "-name x", "--name=y --name=x", "--pre-vote --name x"] {
        assert_eq!(settings(line).get("name"), "x", "{line}");
    }
    assert_eq!(settings("--name=a=b").get("name"), "a=b");
    assert_eq!(settings("--pre-vote").get("pre-vote"), "true");
    assert_eq!(settings("--pre-vote=f").get("pre-vote"), "f");
    assert_eq!(settings("").get("name"), "default");
}

#[test]
fn a_bare_switch_takes_no_value_from_the_next_word() {
    assert_eq!(error("--pre-vote false"), "\"false\" is not a valid flag");
}

#[test]
fn words_that_are_no_flags_are_refused() {
    for line in ["gateway", "--name=x gateway --pre-vote", "-- gateway"] {
        assert_eq!(error(line), "\"gateway\" is not a valid flag");
    }
    assert_eq!(error("-"), "\"-\" is not a valid flag");
    assert_eq!(settings("--"), Settings::default());
}

#[test]
fn an_unknown_flag_gets_the_nearest_one_suggested() {
    assert_eq!(error("--data-dri=x"), "unknown flag --data-dri; did you mean --data-dir?");
    assert_eq!(error("--listen-client-url=x"), "unknown flag --listen-client-url; did you mean --listen-client-urls?");
    assert_eq!(error("--qwertyuiop"), "unknown flag --qwertyuiop; see --help for the flags there are");
}

#[test]
fn values_of_the_wrong_kind_are_refused_even_where_the_flag_has_no_effect() {
    for line in [
        "--snapshot-count=many",
        "--max-txn-ops=-1",
        "--pre-vote=maybe",
        "--auth-token-ttl=5s",
        "--corrupt-check-time=5",
        "--max-concurrent-streams=4294967296",
        "--quota-backend-bytes=1.5",
        "--discovery-fallback=proxy",
    ] {
        assert!(error(line).starts_with("invalid value \""), "{line}: {}", error(line));
    }
    assert_eq!(error("--name"), "flag needs a value: --name");
}

#[test]
fn version_and_help_are_noticed_whatever_else_is_given() {
    assert_eq!(parse(&words("--version --name=x"), &[]), Ok(Invocation::Version));
    for line in ["-h", "--help", "--version -h"] {
        assert_eq!(parse(&words(line), &[]), Ok(Invocation::Help));
    }
    let shown = help();
    assert!(FLAGS.iter().filter(|flag| flag.status != Status::Silent).all(|flag| shown.contains(flag.name)));
}

#[test]
fn the_environment_counts_where_the_command_line_is_silent() {
    let settings = settings_with(
        "--name=flag",
        &[("ETCD_NAME", "env"), ("ETCD_DATA_DIR", "/d"), ("ETCD_WAL_DIR", ""), ("HOME", "/h")],
    );
    assert_eq!((settings.get("name"), settings.get("data-dir")), ("flag", "/d"));
    assert!(!settings.is_given("wal-dir"));
    let texts: Vec<_> = settings.notices.iter().map(|notice| notice.msg).collect();
    assert_eq!(
        texts,
        [
            "recognized and used environment variable",
            "recognized environment variable, but unused: shadowed by corresponding flag",
        ]
    );
}

#[test]
fn foreign_variables_cause_a_warning_and_nothing_else() {
    let settings = settings_with(
        "",
        &[
            ("ETCD_VERSION", "3.5"),
            ("ETCD_PORT_2379_TCP", "tcp://x"),
            ("ETCD_UNSUPPORTED_ARCH", "arm64"),
            ("ETCD_H", "1"),
        ],
    );
    let named: Vec<_> = settings.notices.iter().map(|notice| notice.fields[0].1.as_str()).collect();
    assert_eq!(named, ["ETCD_H", "ETCD_PORT_2379_TCP", "ETCD_VERSION"]);
    assert!(settings.notices.iter().all(|notice| notice.msg == "unrecognized environment variable"));
}

#[test]
fn a_bad_variable_is_named_in_the_error() {
    let error = parse(&[], &variables(&[("ETCD_MAX_TXN_OPS", "x")])).expect_err("not a number");
    assert!(error.to_string().contains("ETCD_MAX_TXN_OPS"), "{error}");
}

#[test]
fn passwords_are_not_logged() {
    let settings = settings_with("", &[("ETCD_DISCOVERY_PASSWORD", "hunter2")]);
    assert!(!format!("{:?}", settings.notices).contains("hunter2"));
}

#[test]
fn flags_without_effect_are_mentioned() {
    let settings = settings("--snapshot-count=5 --memory-mlock --max-result-buffer=1 --force --name=x");
    let named: Vec<_> = settings.notices.iter().map(|notice| (notice.msg, notice.fields[0].1.as_str())).collect();
    assert_eq!(
        named,
        [
            ("flag is accepted but not honoured yet", "memory-mlock"),
            ("flag is accepted but has no effect", "snapshot-count"),
        ]
    );
}

#[test]
fn an_experimental_name_stands_for_its_flag() {
    let one = settings("--experimental-max-learners=3");
    assert_eq!(one.get("max-learners"), "3");
    assert_eq!(one.notices[0].msg, "flag has a new name");
    let both = settings("--experimental-max-learners=3 --max-learners=2");
    assert_eq!(both.get("max-learners"), "2");
}

#[test]
fn variables_are_named_after_their_flags() {
    assert_eq!(find("listen-client-urls").map(Flag::env_name).as_deref(), Some("ETCD_LISTEN_CLIENT_URLS"));
}
