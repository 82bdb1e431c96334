//! No wake is lost for good. A hang fails by the runner's time limit; the gaps are printed, not judged, because a busy test machine
//! delays everything. `cargo run --release -p plinth-uring --example wake_hammer` judges them, over a million wakes.

#[path = "support/hammer.rs"]
mod hammer;

use plinth_uring::Runtime;

#[test]
fn wakes_across_executors_all_arrive() {
    for runtime in [Runtime::Own, Runtime::Glommio] {
        let gaps = hammer::hammer_mailboxes(runtime, 10_000);
        println!("mailboxes, {runtime:?}: {gaps}");
        assert_eq!(gaps.wakes(), 10_000);
    }
}

#[test]
fn wakes_of_an_idle_executor_by_a_socket_alone_all_arrive() {
    for runtime in [Runtime::Own, Runtime::Glommio] {
        let gaps = hammer::hammer_socket(runtime, 10_000);
        println!("socket, {runtime:?}: {gaps}");
        assert_eq!(gaps.wakes(), 10_000);
    }
}
