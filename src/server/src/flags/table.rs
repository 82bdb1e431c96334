//! The table of flags, grouped as etcd's documentation groups them. Defaults are etcd's.

use super::{
    Flag,
    Kind::{self, Bool, Duration, Int, OneOf, Relic, Text, Uint, Uint32},
    Status::{self, Honoured, Ignored, Later, Refused, Silent},
};

const NO_BBOLT: &str = "plinth's tree has no bbolt file behind it";
const NO_SNAPSHOT_COUNT: &str = "plinth checkpoints its tree by log bytes and age, not by entries";
const NO_CATCHUP_ENTRIES: &str = "plinth counts bytes, not entries: see --catch-up-log-bytes";
const OWN_LOG: &str = "plinth recycles its log segments as checkpoints allow";
const NO_DEFRAG: &str = "plinth gives free space back while it runs";
const GO_ONLY: &str = "it concerns the Go runtime";
const NO_TLS: &str =
    "asks for TLS, which this release doesn't have: leave it out and keep the node behind a trusted network";
const NO_PEER_TLS: &str = "asks for TLS between members, which this release doesn't have: leave it out";
const NO_DISCOVERY: &str =
    "asks for discovery, which this release doesn't have: name the members with --initial-cluster";
const RENAMED_GATE: &str = "it became a feature gate in etcd 3.6";
const TERMINAL_DEFAULT: &str = "";

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "panic", "fatal"];
const V2_STAGES: &[&str] = &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];

const fn flag(name: &'static str, kind: Kind, default: &'static str, status: Status, help: &'static str) -> Flag {
    Flag { name, kind, default, status, help }
}

/// Every flag that plinth knows.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    // Member.
    flag("name", Text, "default", Honoured, "name of this member; a key of --initial-cluster"),
    flag("data-dir", Text, "${name}.etcd", Honoured, "where the data is kept"),
    flag("wal-dir", Text, "", Honoured, "where the write-ahead log is kept, if not in the data directory"),
    flag("listen-client-urls", Text, "http://localhost:2379", Honoured, "where clients are served, comma separated"),
    flag("advertise-client-urls", Text, "http://localhost:2379", Honoured, "how clients reach this member; needed when --listen-client-urls is given"),
    flag("listen-peer-urls", Text, "http://localhost:2380", Honoured, "where other members are served, comma separated"),
    flag("listen-metrics-urls", Text, "", Honoured, "further listeners for /metrics and health only"),
    flag("listen-client-http-urls", Text, "", Later, "listeners that take HTTP off the gRPC ports"),
    flag("heartbeat-interval", Uint, "100", Honoured, "milliseconds between heartbeats"),
    flag("election-timeout", Uint, "1000", Honoured, "milliseconds without a heartbeat until an election; at least 5 heartbeats, at most 50000"),
    flag("initial-election-tick-advance", Bool, "true", Later, "whether the first election at start comes early"),
    flag("quota-backend-bytes", Int, "0", Honoured, "size of the data at which writes stop; 0 is 2 GiB, negative is no limit"),
    flag("max-request-bytes", Uint, "1572864", Honoured, "largest client request, in bytes"),
    flag("max-txn-ops", Uint, "128", Honoured, "most operations in a transaction"),
    flag("max-concurrent-streams", Uint32, "4294967295", Honoured, "most streams one client connection may have open"),
    flag("grpc-keepalive-min-time", Duration, "5s", Honoured, "shortest time between pings that a client may send"),
    flag("grpc-keepalive-interval", Duration, "2h", Honoured, "how often an idle client is pinged"),
    flag("grpc-keepalive-timeout", Duration, "20s", Honoured, "how long an answer to a ping may take"),
    flag("socket-reuse-port", Bool, "false", Ignored("its executors always share their port among themselves and with nobody else"), "share the port with other processes"),
    flag("socket-reuse-address", Bool, "false", Ignored("plinth's listeners always reuse their address"), "reuse an address that is still in TIME_WAIT"),
    flag("snapshot-count", Uint, "10000", Ignored(NO_SNAPSHOT_COUNT), "applied entries between snapshots"),
    flag("snapshot-catchup-entries", Uint, "5000", Ignored(NO_CATCHUP_ENTRIES), "entries kept for slow followers after a snapshot"),
    flag("max-snapshots", Uint, "5", Ignored(NO_SNAPSHOT_COUNT), "snapshot files kept; deprecated"),
    flag("max-wals", Uint, "5", Ignored(OWN_LOG), "log files kept"),
    flag("backend-batch-interval", Duration, "0s", Ignored(NO_BBOLT), "longest time between commits of the backend"),
    flag("backend-batch-limit", Int, "0", Ignored(NO_BBOLT), "most operations between commits of the backend"),
    flag("backend-bbolt-freelist-type", OneOf(&["map", "array"]), "map", Ignored(NO_BBOLT), "kind of bbolt's free list"),
    flag("memory-mlock", Bool, "false", Later, "lock the data in memory"),
    flag("raft-read-timeout", Duration, "5s", Later, "read timeout of peer connections"),
    flag("raft-write-timeout", Duration, "5s", Later, "write timeout of peer connections"),
    // plinth's own.
    flag("cores", Text, "", Honoured, "cores to run on: a number (2) or a list (0,4-5; one core alone is 3-3); default: at most 4"),
    flag("shards", Uint32, "1", Honoured, "write-ahead logs, chosen at the first start and kept"),
    flag("wal-sync-method", OneOf(&["auto", "write-dsync", "linked-sync", "thread-dsync"]), "auto", Honoured, "how the log reaches the device; auto measures at the first start"),
    flag("wal-stall-soft", Duration, "0s", Honoured, "a write of the log that takes so long makes new proposals wait and the member not ready; 0 is half the election timeout"),
    flag("wal-stall-hard", Duration, "0s", Honoured, "a write of the log that takes so long makes a leader hand its leadership over, if others do better; 0 is three quarters of the election timeout"),
    flag("checkpoint-log-bytes", Uint, "134217728", Honoured, "a checkpoint starts when the log has grown by so much; less makes starts after a crash shorter and writes dearer"),
    flag("catch-up-log-bytes", Uint, "4294967296", Honoured, "how much of the log a leader keeps for members that are behind; whoever lacks more gets a snapshot"),
    flag("scrub-interval", Duration, "24h", Honoured, "how long a pass over the tree file takes that reads and proves all of its pages; rot raises the alarm CORRUPT; 0 is never"),
    // Clustering.
    flag("initial-advertise-peer-urls", Text, "http://localhost:2380", Honoured, "how other members reach this one"),
    flag("initial-cluster", Text, "default=http://localhost:2380", Honoured, "members at the first start: name=url,name=url"),
    flag("initial-cluster-state", OneOf(&["new", "existing"]), "new", Honoured, "whether the first start makes a cluster or joins one"),
    flag("initial-cluster-token", Text, "etcd-cluster", Honoured, "keeps clusters with the same URLs apart"),
    flag("strict-reconfig-check", Bool, "true", Honoured, "refuse membership changes that would cost the quorum"),
    flag("pre-vote", Bool, "true", Ignored("members always ask first"), "ask before an election whether it could be won"),
    flag("max-learners", Int, "1", Honoured, "most learners in the cluster"),
    flag("force-new-cluster", Bool, "false", Honoured, "make a cluster of one member from existing data; leave it out at the next start"),
    flag("auto-compaction-mode", OneOf(&["periodic", "revision"]), "periodic", Honoured, "what --auto-compaction-retention counts"),
    flag("auto-compaction-retention", Text, "0", Honoured, "how much history is kept; 0 keeps all"),
    flag("discovery", Text, "", Refused(NO_DISCOVERY), "v2 discovery"),
    flag("discovery-proxy", Text, "", Ignored("there is no discovery"), "v2 discovery through a proxy"),
    flag("discovery-fallback", OneOf(&["exit"]), "exit", Ignored("there is no discovery"), "what to do when discovery fails"),
    flag("discovery-srv", Text, "", Refused(NO_DISCOVERY), "domain whose SRV records name the members"),
    flag("discovery-srv-name", Text, "", Ignored("there is no discovery"), "suffix of the SRV name"),
    flag("discovery-token", Text, "", Refused(NO_DISCOVERY), "v3 discovery: token"),
    flag("discovery-endpoints", Text, "", Refused(NO_DISCOVERY), "v3 discovery: endpoints"),
    flag("discovery-dial-timeout", Duration, "2s", Ignored("there is no discovery"), "v3 discovery: dial timeout"),
    flag("discovery-request-timeout", Duration, "5s", Ignored("there is no discovery"), "v3 discovery: request timeout"),
    flag("discovery-keepalive-time", Duration, "2s", Ignored("there is no discovery"), "v3 discovery: keepalive interval"),
    flag("discovery-keepalive-timeout", Duration, "6s", Ignored("there is no discovery"), "v3 discovery: keepalive timeout"),
    flag("discovery-insecure-transport", Bool, "true", Ignored("there is no discovery"), "v3 discovery: no TLS"),
    flag("discovery-insecure-skip-tls-verify", Bool, "false", Ignored("there is no discovery"), "v3 discovery: trust any certificate"),
    flag("discovery-cert", Text, "", Ignored("there is no discovery"), "v3 discovery: certificate"),
    flag("discovery-key", Text, "", Ignored("there is no discovery"), "v3 discovery: key"),
    flag("discovery-cacert", Text, "", Ignored("there is no discovery"), "v3 discovery: CA"),
    flag("discovery-user", Text, "", Ignored("there is no discovery"), "v3 discovery: user"),
    flag("discovery-password", Text, "", Ignored("there is no discovery"), "v3 discovery: password"),
    // Security.
    flag("cert-file", Text, "", Refused(NO_TLS), "certificate shown to clients"),
    flag("key-file", Text, "", Refused(NO_TLS), "its key"),
    flag("trusted-ca-file", Text, "", Refused(NO_TLS), "CA of client certificates"),
    flag("client-cert-auth", Bool, "false", Refused(NO_TLS), "require client certificates"),
    flag("client-cert-file", Text, "", Refused(NO_TLS), "certificate for the member's own client"),
    flag("client-key-file", Text, "", Refused(NO_TLS), "its key"),
    flag("client-crl-file", Text, "", Refused(NO_TLS), "revoked client certificates"),
    flag("client-cert-allowed-hostname", Text, "", Refused(NO_TLS), "host name that client certificates must carry"),
    flag("auto-tls", Bool, "false", Refused(NO_TLS), "client TLS with a certificate made at start"),
    flag("peer-cert-file", Text, "", Refused(NO_PEER_TLS), "certificate shown to members"),
    flag("peer-key-file", Text, "", Refused(NO_PEER_TLS), "its key"),
    flag("peer-trusted-ca-file", Text, "", Refused(NO_PEER_TLS), "CA of peer certificates"),
    flag("peer-client-cert-auth", Bool, "false", Refused(NO_PEER_TLS), "require peer certificates"),
    flag("peer-client-cert-file", Text, "", Refused(NO_PEER_TLS), "certificate for outgoing peer connections"),
    flag("peer-client-key-file", Text, "", Refused(NO_PEER_TLS), "its key"),
    flag("peer-crl-file", Text, "", Refused(NO_PEER_TLS), "revoked peer certificates"),
    flag("peer-cert-allowed-cn", Text, "", Refused(NO_PEER_TLS), "common name that peer certificates must carry"),
    flag("peer-cert-allowed-hostname", Text, "", Refused(NO_PEER_TLS), "host name that peer certificates must carry"),
    flag("peer-skip-client-san-verification", Bool, "false", Ignored("there is no TLS between members yet"), "don't check the SAN of peer certificates"),
    flag("peer-auto-tls", Bool, "false", Refused(NO_PEER_TLS), "peer TLS with a certificate made at start"),
    flag("self-signed-cert-validity", Uint, "1", Ignored("there is no TLS yet"), "years that certificates made at start are valid"),
    flag("cipher-suites", Text, "", Ignored("there is no TLS yet"), "TLS cipher suites, Go's names"),
    flag("tls-min-version", OneOf(&["TLS1.2", "TLS1.3"]), "TLS1.2", Ignored("there is no TLS yet"), "lowest TLS version"),
    flag("tls-max-version", OneOf(&["", "TLS1.2", "TLS1.3"]), "", Ignored("there is no TLS yet"), "highest TLS version"),
    flag("cors", Text, "*", Later, "origins that browsers may call from"),
    flag("host-whitelist", Text, "*", Later, "host names that HTTP requests may carry"),
    flag("auth-token", Text, "simple", Later, "kind of auth token"),
    flag("auth-token-ttl", Uint, "300", Later, "seconds that a simple token lives"),
    flag("bcrypt-cost", Uint, "10", Later, "cost of hashing a password"),
    // Logging.
    flag("logger", OneOf(&["zap"]), "zap", Honoured, "zap is the only value; the lines have its shape"),
    flag("log-level", OneOf(LEVELS), "info", Honoured, "least level that is logged: debug, info, warn, error, panic, fatal"),
    flag("log-outputs", Text, "default", Honoured, "where log lines go: default (stderr), stderr, stdout or files, comma separated"),
    flag("log-format", OneOf(&["json", "console"]), TERMINAL_DEFAULT, Honoured, "json or console; default: json, on a terminal a few plain lines"),
    flag("enable-log-rotation", Bool, "false", Ignored("plinth appends to its log files: rotate them with copytruncate"), "rotate a log file"),
    flag("log-rotation-config-json", Text, "", Ignored("plinth appends to its log files: rotate them with copytruncate"), "how to rotate it"),
    flag("warning-apply-duration", Duration, "100ms", Later, "apply time above which a warning is logged"),
    flag("warning-unary-request-duration", Duration, "300ms", Later, "request time above which a warning is logged"),
    // Monitoring, tracing, profiling.
    flag("metrics", OneOf(&["basic", "extensive"]), "basic", Later, "extensive adds histograms of gRPC latency"),
    flag("enable-pprof", Bool, "false", Ignored(GO_ONLY), "serve Go profiles"),
    flag("enable-distributed-tracing", Bool, "false", Later, "send OpenTelemetry traces"),
    flag("distributed-tracing-address", Text, "localhost:4317", Later, "where traces go"),
    flag("distributed-tracing-service-name", Text, "etcd", Later, "service name in traces"),
    flag("distributed-tracing-instance-id", Text, "", Later, "instance id in traces"),
    flag("distributed-tracing-sampling-rate", Int, "0", Later, "traces per million requests"),
    // Behaviour.
    flag("enable-grpc-gateway", Bool, "true", Later, "serve JSON over HTTP"),
    flag("watch-progress-notify-interval", Duration, "10m", Honoured, "how often a quiet watch that asked for it is told the revision; at least 100ms"),
    flag("corrupt-check-time", Duration, "0s", Later, "how often members compare their data"),
    flag("compact-hash-check-time", Duration, "1m", Later, "how often members compare hashes after compaction"),
    flag("compaction-batch-limit", Int, "0", Ignored("plinth's compaction has its own budget per turn"), "revisions removed per step of a compaction"),
    flag("compaction-sleep-interval", Duration, "0s", Ignored("plinth's compaction has its own budget per turn"), "pause between steps of a compaction"),
    flag("downgrade-check-time", Duration, "5s", Later, "how often a downgrade is checked"),
    flag("bootstrap-defrag-threshold-megabytes", Uint, "0", Ignored(NO_DEFRAG), "free space above which a start defragments"),
    flag("feature-gates", Text, "", Later, "Name=true,Name=false"),
    flag("unsafe-no-fsync", Bool, "false", Ignored("plinth never answers before the log is durable"), "answer before data is durable"),
    flag("v2-deprecation", OneOf(V2_STAGES), "write-only-drop-data", Ignored("there is no v2 store"), "stage of removing the v2 store"),
    flag("config-file", Text, "", Refused("is not supported yet: give the settings as flags or ETCD_* variables"), "read all settings from a YAML or JSON file"),
    flag("version", Bool, "false", Honoured, "print the version and exit"),
    flag("help", Bool, "false", Honoured, "print this text and exit"),
    flag("h", Bool, "false", Honoured, "the same"),
    // etcd 3.6 and older: flags that became feature gates, or went.
    flag("experimental-initial-corrupt-check", Bool, "false", Ignored(RENAMED_GATE), "check the data against other members at start"),
    flag("experimental-compact-hash-check-enabled", Bool, "false", Ignored(RENAMED_GATE), "compare hashes after compaction"),
    flag("experimental-enable-lease-checkpoint", Bool, "false", Ignored(RENAMED_GATE), "keep the remaining time of leases over elections"),
    flag("experimental-enable-lease-checkpoint-persist", Bool, "false", Ignored(RENAMED_GATE), "keep it over restarts"),
    flag("experimental-stop-grpc-service-on-defrag", Bool, "false", Ignored(NO_DEFRAG), "say not serving during defragmentation"),
    flag("experimental-txn-mode-write-with-shared-buffer", Bool, "true", Ignored("plinth's reads copy nothing"), "share the read buffer in write transactions"),
    flag("experimental-set-member-localaddr", Bool, "false", Ignored(RENAMED_GATE), "bind outgoing peer connections"),
    flag("experimental-enable-v2v3", Text, "", Ignored("there is no v2 API"), "serve the v2 API from the v3 store"),
    flag("experimental-wait-cluster-ready-timeout", Duration, "5s", Ignored("a member serves as soon as it is ready"), "wait for the cluster at start"),
    // Twins: etcd 3.6's name of a flag above. `experimental_twin` gives them its meaning.
    twin("experimental-corrupt-check-time", Duration, "0s"),
    twin("experimental-compact-hash-check-time", Duration, "1m"),
    twin("experimental-compaction-batch-limit", Int, "0"),
    twin("experimental-compaction-sleep-interval", Duration, "0s"),
    twin("experimental-peer-skip-client-san-verification", Bool, "false"),
    twin("experimental-watch-progress-notify-interval", Duration, "10m"),
    twin("experimental-warning-apply-duration", Duration, "100ms"),
    twin("experimental-warning-unary-request-duration", Duration, "300ms"),
    twin("experimental-bootstrap-defrag-threshold-megabytes", Uint, "0"),
    twin("experimental-max-learners", Int, "1"),
    twin("experimental-snapshot-catchup-entries", Uint, "5000"),
    twin("experimental-memory-mlock", Bool, "false"),
    twin("experimental-enable-distributed-tracing", Bool, "false"),
    twin("experimental-distributed-tracing-address", Text, "localhost:4317"),
    twin("experimental-distributed-tracing-service-name", Text, "etcd"),
    twin("experimental-distributed-tracing-instance-id", Text, ""),
    twin("experimental-distributed-tracing-sampling-rate", Int, "0"),
    twin("experimental-downgrade-check-time", Duration, "5s"),
    twin("experimental-backend-bbolt-freelist-type", OneOf(&["map", "array"]), "map"),
    // Relics that etcd accepts and never mentions.
    relic("cluster-active-size"), relic("cluster-remove-delay"), relic("cluster-sync-interval"), relic("config"),
    relic("force"), relic("max-result-buffer"), relic("max-retry-attempts"), relic("peer-heartbeat-interval"),
    relic("peer-election-timeout"), relic("retry-interval"), relic("snapshot"), relic("v"), relic("vv"),
];

const fn twin(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    flag(name, kind, default, Silent, "the name in etcd 3.6 of the flag without experimental-")
}

const fn relic(name: &'static str) -> Flag {
    flag(name, Relic, "", Silent, "accepted, without effect")
}
