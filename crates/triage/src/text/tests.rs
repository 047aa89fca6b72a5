use super::*;

#[test]
fn chunks_may_end_anywhere() {
    let text = b"noise\n[   12.500000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n[   12.500001] Oops: Oops: 0002 [#1] SMP\n[   12.500002] RIP: 0010:f+0x8/0x20 [m]\n[   12.500003] Call Trace:\n[   12.500004]  g+0x1/0x2\n";
    let whole = read_bytes(text);
    assert_eq!(whole.splats.len(), 1);
    for at in 0..text.len() {
        let mut reader = Reader::new();
        let (head, tail) = text.split_at(at);
        reader.push(head);
        reader.push(tail);
        assert_eq!(reader.finish().splats, whole.splats, "{at}");
    }
}
