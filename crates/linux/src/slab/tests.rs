use proptest::prelude::*;

use super::*;

const START: VirtAddr = VirtAddr(0xffff_8880_0123_4000);

pub(super) fn slab(size: Field<u32>, pad: Field<u32>, objects: Field<u32>) -> Slab {
    let cache = SlabCache {
        at: VirtAddr(0xffff_8880_0100_0000),
        name: Ok("test".into()),
        flags: Ok(0),
        object_size: size.clone(),
        size,
        align: Ok(8),
        pad,
        order: Ok(0),
        reclaimable: Ok(false),
        shapes: Err(Lacks::Types),
        slab_objects: None,
    };
    Slab { at: VirtAddr(0xffff_ea00_0000_0000), start: START, objects, guarded: None, cache: Arc::new(cache) }
}

proptest! {
    #[test]
    fn every_byte_of_a_slot_belongs_to_its_object(
        size in 1_u32..10_000, pad in 0_u32..128, objects in 1_u32..500, index: u32, inside: u32,
    ) {
        let (index, inside) = (index % objects, inside % size);
        let slab = slab(Ok(size), Ok(pad), Ok(objects));
        let slot = START.add(u64::from(index) * u64::from(size));
        prop_assert_eq!(slab.object_at(slot.add(inside.into())), Ok(Some(slot.add(pad.into()))));
    }

    #[test]
    fn waste_and_other_memory_hold_no_object(size in 1_u32..10_000, objects in 0_u32..500, beyond in 0_u64..10_000) {
        let slab = slab(Ok(size), Ok(0), Ok(objects));
        let end = START.add(u64::from(size) * u64::from(objects));
        prop_assert_eq!(slab.object_at(end.add(beyond)), Ok(None));
        prop_assert_eq!(slab.object_at(START.sub(1 + beyond)), Ok(None));
    }

    #[test]
    fn no_sizes_make_it_panic(size: u32, pad: u32, objects: u32, at: u64) {
        let answer = slab(Ok(size), Ok(pad), Ok(objects)).object_at(VirtAddr(at));
        prop_assert_eq!(answer.is_err(), size == 0);
    }
}

#[test]
fn what_the_cache_lacks_the_object_lacks() {
    let lacks = Lacks::Member { record: "kmem_cache".into(), members: "size".into() };
    assert_eq!(slab(Err(lacks.clone()), Ok(0), Ok(1)).object_at(START), Err(lacks));
}

#[test]
fn a_guarded_page_holds_one_object_wherever_it_lies() {
    let object = START.add(0xf40);
    let slab = Slab { guarded: Some(object), ..slab(Ok(192), Ok(0), Ok(1)) };
    assert_eq!(slab.object_at(START), Ok(Some(object)));
    assert_eq!(slab.object_at(object.add(100)), Ok(Some(object)));
}

fn answer(number: u32) -> Field<Option<Arc<Slab>>> {
    Ok(Some(Arc::new(slab(Ok(1), Ok(0), Ok(number)))))
}

#[test]
fn frames_are_looked_at_once() {
    let frames = Frames::default();
    let first = frames.get_or_find(Pfn(7), || answer(1)).unwrap().unwrap();
    let again = frames.get_or_find(Pfn(7), || panic!("it is kept")).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert!(frames.get_or_find(Pfn(8), || Ok(None)).unwrap().is_none());
    assert!(frames.get_or_find(Pfn(8), || panic!("so is a no")).unwrap().is_none());
}

#[test]
fn a_frame_can_ask_for_another_of_its_shard() {
    let frames = Frames::default();
    let found = frames.get_or_find(Pfn(64), || frames.get_or_find(Pfn(0), || answer(3)));
    assert_eq!(found.unwrap().unwrap().objects, Ok(3));
}

#[test]
fn frames_kept_are_bounded() {
    let frames = Frames::default();
    for pfn in 0..1 << 19 {
        let _ = frames.get_or_find(Pfn(pfn), || Ok(None));
    }
    assert!(frames.len() <= 1 << 18);
}
