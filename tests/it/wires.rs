//! Every message type that travels in the envelope, with the file that makes it one.

use mocks3::actors::{fault_injector, member, metadata, queue_worker, storage_node, third_party};
use mocks3::cluster::Wire;
use mocks3::replica::talk;

use crate::tidy::sources;

/// The messages of all groups of replicas are of one shape.
#[derive(Clone, Debug)]
struct AnyGroup;

impl talk::Group for AnyGroup {
    const NAME: &'static str = "any";
    const ROLE: &'static str = "any-replica";
}

/// Something that is done with each type.
pub trait ForEach {
    fn with<M: Wire + Sync>(&mut self, file: &'static str);
}

pub fn each(what: &mut impl ForEach) {
    what.with::<metadata::Message>("src/actors/metadata.rs");
    what.with::<queue_worker::Message>("src/actors/queue_worker.rs");
    what.with::<storage_node::message::Message>("src/actors/storage_node/message.rs");
    what.with::<third_party::message::Message>("src/actors/third_party/message.rs");
    what.with::<fault_injector::Message>("src/actors/fault_injector.rs");
    what.with::<member::Message>("src/actors/member.rs");
    what.with::<talk::Message<AnyGroup>>("src/replica/talk.rs");
}

#[test]
fn the_list_has_every_wire_type_of_the_sources() {
    struct Files(Vec<&'static str>);
    impl ForEach for Files {
        fn with<M: Wire + Sync>(&mut self, file: &'static str) {
            self.0.push(file);
        }
    }
    let mut listed = Files(Vec::new());
    each(&mut listed);
    listed.0.sort_unstable();
    let mut there: Vec<String> = Vec::new();
    for source in sources("src") {
        let count = source.code().matches(" Wire for ").count();
        there.extend(std::iter::repeat_n(source.path.clone(), count));
    }
    there.sort_unstable();
    assert_eq!(there, listed.0, "put new types into `each`: they must be covered here");
}
