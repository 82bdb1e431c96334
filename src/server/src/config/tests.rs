//! From command line and environment to a configuration, and to the one line that says what is wrong.

use std::time::Duration;

use plinth_env::SyncMethod;

use super::*;
use crate::flags::{self, Invocation};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn configure(line: &str) -> Result<(Config, Vec<Notice>), StartError> {
    match flags::parse(&words(line), &[])? {
        Invocation::Run(settings) => from_settings(&settings),
        other => panic!("{line} asks for {other:?}"),
    }
}

fn config(line: &str) -> Config {
    configure(line).expect(line).0
}

#[test]
fn without_flags_it_is_etcds_default_node() {
    let (config, notices) = configure("").expect("defaults are valid");
    assert_eq!(notices, []);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.listen_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(config.advertise_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(config.listen_peer_urls[0].to_string(), "http://localhost:2380");
    assert_eq!(config.quota_backend_bytes, Some(2_147_483_648));
    assert_eq!(config.limits.request_bytes_max, 1_572_864);
    assert_eq!(config.limits.txn_ops_max, 128);
    assert_eq!(config.limits.concurrent_streams_max, u32::MAX);
    assert_eq!(config.keepalive.client_interval_min, Duration::from_secs(5));
    assert_eq!(config.keepalive.interval, Duration::from_secs(7200));
    assert_eq!(config.keepalive.timeout, Duration::from_secs(20));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_millis(1000));
    assert_eq!(config.log, LogConfig { level: None, form: None, outputs: vec![Output::Stderr] });
    assert_eq!((config.cores, config.shards, config.wal_sync_method), (None, None, None));
    assert_eq!((config.checkpoint_log_bytes, config.wal_stall_soft), (128 << 20, Duration::from_millis(500)));
    assert_eq!((config.catch_up_log_bytes, config.wal_stall_hard), (4 << 30, Duration::from_millis(750)));
    assert_eq!(config.scrub_interval, Duration::from_secs(24 * 3600));
    assert!(config.wal_dir.is_none() && config.listen_metrics_urls.is_empty());
}

#[test]
fn values_reach_their_fields() {
    let config = config(
        "--name=infra1 -data-dir /d --wal-dir /w --listen-client-urls=http://0.0.0.0:1,unix:///run/p.sock \
         --advertise-client-urls=http://h:1 --quota-backend-bytes=-1 --max-request-bytes 100 --max-txn-ops=7 \
         --max-concurrent-streams=9 --grpc-keepalive-min-time=1s --grpc-keepalive-interval=2s --grpc-keepalive-timeout=3s \
         --heartbeat-interval 20 --election-timeout 200 --log-level=debug --log-format=console --log-outputs=stdout,/l \
         --cores=0-1 --shards=2 --wal-sync-method=linked-sync --listen-metrics-urls=http://127.0.0.1:2381 \
         --checkpoint-log-bytes=65536 --wal-stall-soft=70ms --wal-stall-hard=90ms --catch-up-log-bytes=0 --scrub-interval=0",
    );
    assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("infra1", Some("/d")));
    assert_eq!(config.wal_dir, Some(PathBuf::from("/w")));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.listen_metrics_urls[0].to_string(), "http://127.0.0.1:2381");
    assert_eq!(config.quota_backend_bytes, None);
    let limits = ClientLimits { request_bytes_max: 100, txn_ops_max: 7, concurrent_streams_max: 9 };
    assert_eq!(config.limits, limits);
    assert_eq!(config.keepalive.client_interval_min, Duration::from_secs(1));
    assert_eq!((config.keepalive.interval, config.keepalive.timeout), (Duration::from_secs(2), Duration::from_secs(3)));
    assert_eq!(config.election_timeout, Duration::from_millis(200));
    assert_eq!(config.log.level, Some(Level::Debug));
    assert_eq!(config.log.form, Some(Form::Console));
    assert_eq!(config.log.outputs, [Output::Stdout, Output::File(PathBuf::from("/l"))]);
    assert_eq!(config.cores, Some(CoresSpec::List([0, 1].into())));
    assert_eq!((config.shards, config.wal_sync_method), (Some(2), Some(SyncMethod::LinkedSync)));
    assert_eq!((config.checkpoint_log_bytes, config.wal_stall_soft), (65536, Duration::from_millis(70)));
    assert_eq!((config.catch_up_log_bytes, config.wal_stall_hard), (0, Duration::from_millis(90)));
    assert_eq!(config.scrub_interval, Duration::ZERO);
}

#[test]
fn every_bad_value_is_refused_with_one_line_that_helps() {
    let cases = [
        ("--name=", "--name is empty"),
        ("--wal-stall-soft=9ms", "at least 10ms"),
        ("--wal-stall-hard=499ms", "shorter than --wal-stall-soft, which is 500ms"),
        ("--name=a/b", "give --data-dir"),
        (
            "--listen-client-urls=http://127.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-client-urls=http://h:1 --advertise-client-urls=http://h:1",
            "expected IP in URL for binding (http://h:1)",
        ),
        ("--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=http://h:1", "doesn't have TLS"),
        ("--listen-peer-urls=https://127.0.0.1:1", "doesn't have TLS"),
        ("--advertise-client-urls=http://:1", "unexpected empty host"),
        ("--advertise-client-urls=nonsense", "--advertise-client-urls"),
        ("--initial-advertise-peer-urls=http://:1", "unexpected empty host"),
        ("--initial-cluster=nonsense", "write name=http://host:port"),
        ("--heartbeat-interval=0", "--heartbeat-interval must be >0"),
        ("--election-timeout=0", "--election-timeout must be >0"),
        ("--election-timeout=499", "should be at least as 5 times as --heartbeat-interval[100ms]"),
        ("--election-timeout=50001", "is too long"),
        ("--max-request-bytes=0", "give 1 to"),
        ("--max-request-bytes=99999999999", "give 1 to"),
        ("--max-txn-ops=0", "give 1 to"),
        ("--shards=0", "give 1 to 64"),
        ("--shards=65", "give 1 to 64"),
        ("--checkpoint-log-bytes=65535", "give 65536 to"),
        ("--cores=x", "expected a number of cores"),
        ("--cert-file=/x", "doesn't have"),
        ("--client-cert-auth", "doesn't have"),
        ("--config-file=/x", "not supported yet"),
        ("--discovery-srv=example.com", "--initial-cluster"),
        ("--log-level=loud", "debug, info, warn"),
        ("--logger=glog", "zap"),
    ];
    for (line, want) in cases {
        let error = configure(line).expect_err(line);
        assert!(error.to_string().contains(want), "{line}: {error}");
        assert!(!error.to_string().contains('\n'), "{line}: {error}");
        assert_ne!(error.exit_code(), 0, "{line}");
    }
}

#[test]
fn refused_flags_at_their_default_do_no_harm() {
    config("--client-cert-auth=false --cert-file= --auto-tls=0 --discovery-srv=");
}

#[test]
fn the_data_directory_follows_the_name() {
    assert_eq!(config("--name=n1").data_dir, PathBuf::from("n1.etcd"));
    assert_eq!(config("--name=n1 --data-dir=").data_dir, PathBuf::from("n1.etcd"));
}

#[test]
fn zero_keepalives_mean_grpcs_defaults() {
    let keepalive =
        config("--grpc-keepalive-min-time=0s --grpc-keepalive-interval=0 --grpc-keepalive-timeout=1s").keepalive;
    assert_eq!(keepalive.client_interval_min, Duration::from_secs(300));
    assert_eq!((keepalive.interval, keepalive.timeout), GRPC_PING_DEFAULT);
    assert_eq!(config("--max-concurrent-streams=0").limits.concurrent_streams_max, u32::MAX);
}

#[test]
fn connections_get_the_limits_of_the_flags() {
    let line = "--max-request-bytes=1000 --max-concurrent-streams=9 --grpc-keepalive-min-time=1s \
                --grpc-keepalive-interval=2s --grpc-keepalive-timeout=3s";
    let connections = config(line).connections();
    assert_eq!((connections.message_bytes_max, connections.streams_max), (1000 + (512 << 10), 9));
    assert_eq!(connections.keepalive_min_time, Duration::from_secs(1));
    assert_eq!(connections.keepalive_interval, Duration::from_secs(2));
    assert_eq!(connections.keepalive_timeout, Duration::from_secs(3));
    assert_eq!(config("").connections().message_bytes_max, ConnConfig::default().message_bytes_max);
}

#[test]
fn large_limits_are_accepted_with_a_warning() {
    let (_, notices) =
        configure("--quota-backend-bytes=8589934593 --max-request-bytes=10485761").expect("both are allowed");
    let texts: Vec<_> = notices.iter().map(|notice| notice.msg).collect();
    assert_eq!(texts, ["quota exceeds the maximum recommended value", "exceeded recommended request limit"]);
}

#[test]
fn a_member_may_have_several_urls_in_the_initial_cluster() {
    let members = Bootstrap::parse_cluster("a=http://h:2,b=http://i:1,a=http://h:1").expect("a good cluster");
    let a = ("a".to_owned(), vec!["http://h:1".to_owned(), "http://h:2".to_owned()]);
    assert_eq!(members, [a, ("b".to_owned(), vec!["http://i:1".to_owned()])]);
}

#[test]
fn sync_methods_have_names_both_ways() {
    for method in [SyncMethod::WriteDsync, SyncMethod::LinkedSync, SyncMethod::ThreadDsync] {
        assert_eq!(sync_method(sync_method_name(method)), Some(method));
    }
    assert_eq!(sync_method("auto"), None);
}

#[test]
fn retention_is_a_time_or_a_number_of_revisions() {
    let retention = |line: &str| configure(line).map(|(config, _)| config.retention);
    assert_eq!(retention(""), Ok(None));
    for (line, want) in [
        ("--auto-compaction-retention=0", None),
        ("--auto-compaction-retention=2", Some(Retention::Time(Duration::from_secs(7200)))),
        ("--auto-compaction-retention=90m", Some(Retention::Time(Duration::from_secs(5400)))),
        ("--auto-compaction-mode=revision --auto-compaction-retention=1000", Some(Retention::Revisions(1000))),
        ("--auto-compaction-mode=revision --auto-compaction-retention=0", None),
    ] {
        assert_eq!(retention(line), Ok(want), "{line}");
    }
    for line in [
        "--auto-compaction-retention=soon",
        "--auto-compaction-retention=-1h",
        "--auto-compaction-retention=1ms",
        "--auto-compaction-mode=revision --auto-compaction-retention=1h",
    ] {
        assert!(retention(line).is_err(), "{line}");
    }
}
