//! The ring on sockets of this machine.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ringmq_core::connection::{Chunk, Output};
use ringmq_core::store::Block;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;

use super::*;
use crate::sends::SEND_SIZE_MAX;

fn ring(entries: u32, buffers_count: u16) -> KernelRing {
    let config = RingConfig {
        entries,
        buffers_count,
        buffer_size: 64,
        ..RingConfig::default()
    };
    let wakeup = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    KernelRing::new(config, wakeup).unwrap()
}

fn conn(index: u32) -> ConnId {
    ConnId {
        index,
        generation: 7,
    }
}

/// Everything that completes without waiting.
fn completions(ring: &mut KernelRing) -> Vec<Completion> {
    let mut all = Vec::new();
    loop {
        ring.submit();
        ring.reap(usize::MAX);
        let before = all.len();
        all.extend(std::iter::from_fn(|| ring.pop()));
        ring.memory.sends.invariants();
        ring.memory.files.invariants();
        ring.memory.buffers.invariants();
        if all.len() == before {
            return all;
        }
    }
}

#[test]
fn operations_beyond_the_queue_and_completions_beyond_theirs_are_not_lost() {
    // One entry for submissions, four for completions.
    let mut ring = ring(1, 64);
    let mut pairs: Vec<_> = (0..64).map(|_| UnixStream::pair().unwrap()).collect();
    for (index, (ours, theirs)) in pairs.iter_mut().enumerate() {
        ring.receive(conn(index as u32), ours.as_fd(), Receive::Multishot);
        theirs.write_all(&[index as u8]).unwrap();
    }
    for round in 0..3 {
        let mut seen = [0; 64];
        for completion in completions(&mut ring) {
            let Completion::Received(Received { conn, input, more }) = completion else {
                panic!("{completion:?}")
            };
            let index = conn.index as usize;
            if let Input::Chunk(lease) = input {
                assert_eq!(ring.bytes(&lease), [conn.index as u8]);
                seen[index] += 1;
                ring.give_back(lease);
            }
            // A multishot whose completion does not fit ends with it.
            if !more {
                ring.receive(conn, pairs[index].0.as_fd(), Receive::Multishot);
            }
        }
        assert_eq!(seen, [1; 64], "round {round}");
        // All wake at once, outside of a submission.
        ring.submit();
        for (index, (_, theirs)) in pairs.iter_mut().enumerate() {
            theirs.write_all(&[index as u8]).unwrap();
        }
    }
    assert!(ring.overflow_count() > 0);
}

#[test]
fn a_receive_without_a_free_buffer_says_so_and_works_again_with_one() {
    let mut ring = ring(8, 1);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[1; 100]).unwrap();
    ring.receive(conn(3), ours.as_fd(), Receive::Multishot);
    let mut found = completions(&mut ring).into_iter();
    let Some(Completion::Received(Received {
        input: Input::Chunk(lease),
        ..
    })) = found.next()
    else {
        panic!("no chunk")
    };
    assert_eq!(lease.size(), 64);
    let exhausted = found.next();
    assert!(
        matches!(
            &exhausted,
            Some(Completion::Received(Received {
                input: Input::Failed(Errno::NOBUFS),
                more: false,
                ..
            }))
        ),
        "{exhausted:?}"
    );
    ring.give_back(lease);
    ring.receive(conn(3), ours.as_fd(), Receive::Once);
    let rest = completions(&mut ring);
    assert!(
        matches!(
            &rest[..],
            [Completion::Received(Received {
                input: Input::Chunk(lease),
                more: false,
                ..
            })] if lease.size() == 36
        ),
        "{rest:?}"
    );
}

/// A connected pair of each kind of socket that a listener accepts.
fn pairs() -> [(OwnedFd, OwnedFd); 2] {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    [(ours.into(), theirs.into()), (accepted.into(), tcp.into())]
}

#[test]
fn a_hang_up_ends_what_waits_on_the_socket_and_nothing_else() {
    for half_closed in [false, true] {
        for (ours, theirs) in pairs() {
            let mut ring = ring(8, 4);
            let (other, _peer) = UnixStream::pair().unwrap();
            ring.receive(conn(2), other.as_fd(), Receive::Multishot);
            ring.receive(conn(1), ours.as_fd(), Receive::Multishot);
            let mut expected = 1;
            if half_closed {
                rustix::net::shutdown(&ours, rustix::net::Shutdown::Write).unwrap();
            } else {
                // One send is more than the sockets take: it waits in the kernel.
                rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
                rustix::net::sockopt::set_socket_recv_buffer_size(&theirs, 4096).unwrap();
                let output = Output::Many(vec![Chunk::Own(vec![0; 4 << 20])]);
                let mut flight = Flight::new(output);
                while let Some(Completion::Sent {
                    flight: back,
                    result,
                    ..
                }) = {
                    ring.send(conn(1), ours.as_fd(), flight);
                    completions(&mut ring).pop()
                } {
                    flight = back;
                    flight.advance(result.unwrap());
                }
                expected = 2;
            }
            assert!(completions(&mut ring).is_empty());
            let before = ring.inflight;
            ring.hang_up(ours.as_fd());
            let ended = completions(&mut ring);
            assert_eq!(
                before - ring.inflight,
                expected,
                "nothing but what was armed"
            );
            for completion in &ended {
                match completion {
                    Completion::Sent {
                        conn: of, flight, ..
                    } => {
                        assert_eq!((*of, flight.is_landed()), (conn(1), false));
                    }
                    Completion::Received(Received {
                        conn: of,
                        input: Input::End,
                        more: false,
                    }) => {
                        assert_eq!(*of, conn(1));
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(ended.len(), expected);
        }
    }
}

#[test]
fn what_the_socket_took_of_a_large_flight_is_told_part_by_part() {
    const SIZE: usize = 5 * SEND_SIZE_MAX / 2;
    for output in [
        Output::One(vec![7; SIZE]),
        Output::Many(vec![
            Chunk::Own(vec![7; 100]),
            Chunk::Own(vec![7; SIZE - 100]),
        ]),
    ] {
        let mut ring = ring(8, 1);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; SIZE];
            std::io::Read::read_exact(&mut theirs, &mut bytes).unwrap();
            bytes
        });
        let mut flight = Flight::new(output);
        let mut parts = Vec::new();
        while !flight.is_landed() {
            ring.send(conn(1), ours.as_fd(), flight);
            ring.submit_and_wait();
            let ended = completions(&mut ring).pop().expect("a send completes");
            let Completion::Sent {
                flight: back,
                result,
                ..
            } = ended
            else {
                panic!("{ended:?}")
            };
            flight = back;
            parts.push(result.unwrap() as usize);
            flight.advance(*parts.last().unwrap() as u32);
        }
        assert_eq!(parts, [SEND_SIZE_MAX, SEND_SIZE_MAX, SEND_SIZE_MAX / 2]);
        assert!(reader.join().unwrap().iter().all(|&byte| byte == 7));
    }
}

#[test]
fn a_ring_dropped_in_the_middle_of_its_work_ends_it_first() {
    let mut ring = ring(8, 4);
    let (ours, theirs) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).unwrap();
    ring.receive(conn(1), ours.as_fd(), Receive::Multishot);
    let output = Output::One(vec![0; 1 << 21]);
    ring.send(conn(1), ours.as_fd(), Flight::new(output));
    ring.set_timer(Instant::from_nanos(u64::MAX / 2));
    assert!(completions(&mut ring).is_empty());
    assert_eq!(ring.inflight, 4, "receive, send, timer and wake-up");
    ring.end_all();
    assert_eq!(ring.inflight, 0);
    drop((ring, theirs));
}

#[test]
fn a_timer_that_is_set_again_fires_at_the_new_time_and_once() {
    let mut ring = ring(8, 1);
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = boot.tv_sec as u64 * NANOS_PER_SEC + boot.tv_nsec as u64;
    for far in [3600, 60, 0] {
        ring.set_timer(Instant::from_nanos(now + far * NANOS_PER_SEC));
        ring.submit();
    }
    let mut fired = Vec::new();
    while fired.is_empty() {
        ring.submit_and_wait();
        fired = completions(&mut ring);
    }
    assert!(matches!(fired[..], [Completion::TimerFired]), "{fired:?}");
    // Set after it fired, it is a timer of its own.
    ring.set_timer(Instant::from_nanos(now));
    ring.submit_and_wait();
    let again = completions(&mut ring);
    assert!(matches!(again[..], [Completion::TimerFired]), "{again:?}");
}

#[test]
fn a_connect_reaches_a_listener_and_says_when_there_is_none() {
    let mut ring = ring(8, 1);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let target = ring.add_target(address);
    let connect = |ring: &mut KernelRing, index| {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        ring.connect(conn(index), socket.as_fd(), target);
        ring.submit_and_wait();
        let ended = completions(ring);
        let [Completion::Connected { conn: of, result }] = ended[..] else {
            panic!("{ended:?}")
        };
        assert_eq!(of, conn(index));
        (socket, result)
    };
    let (socket, result) = connect(&mut ring, 1);
    assert_eq!(result, Ok(()));
    let (accepted, peer) = listener.accept().unwrap();
    let ours = rustix::net::getsockname(&socket).unwrap();
    assert_eq!(peer, ours.try_into().unwrap());
    drop((accepted, listener, socket));
    assert_eq!(connect(&mut ring, 2).1, Err(Errno::CONNREFUSED));
}

#[test]
fn a_send_to_a_closed_peer_is_an_error_and_no_signal() {
    let mut ring = ring(8, 1);
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let output = Output::One(b"x".to_vec());
    ring.send(conn(1), ours.as_fd(), Flight::new(output));
    let ended = completions(&mut ring);
    let [Completion::Sent { result, .. }] = &ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!(*result, Err(Errno::PIPE));
}

/// A file of zeros that is gone when it is closed, for writing with or without the cache of the kernel. `None`: this
/// file system has no O_DIRECT.
fn zeroed(direct: bool) -> Option<(Arc<OwnedFd>, std::fs::File)> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ringmq-ring-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, [0; 8 * 4096]).unwrap();
    let mut flags = OFlags::WRONLY | OFlags::CLOEXEC;
    flags.set(OFlags::DIRECT, direct);
    let opened = rustix::fs::open(&path, flags, rustix::fs::Mode::empty());
    let reader = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    match opened {
        Ok(file) => Some((Arc::new(file), reader)),
        Err(Errno::INVAL) if direct => None,
        Err(errno) => panic!("{errno}"),
    }
}

fn block_of(byte: u8, size: usize) -> Block {
    let mut block = Block::default();
    block.extend(&vec![byte; size]);
    block
}

fn write_of(at: u64, block: Block, sync: bool) -> FileWrite {
    FileWrite { at, block, sync }
}

/// Waits for so many completions of files: `(number, result, first byte of the block)`.
fn stored(ring: &mut KernelRing, count: usize) -> Vec<(u64, Result<(), Errno>, Option<u8>)> {
    let mut all = Vec::new();
    while all.len() < count {
        ring.submit_and_wait();
        for completion in completions(ring) {
            let Completion::Stored { op, result, block } = completion else {
                panic!("{completion:?}")
            };
            let first = block.and_then(|block| block.bytes().first().copied());
            all.push((op.0, result, first));
        }
    }
    all.sort_by_key(|(op, _, _)| *op);
    all
}

#[test]
fn writes_reach_the_file_and_their_blocks_come_back() {
    for direct in [false, true] {
        let Some((file, mut reader)) = zeroed(direct) else {
            continue;
        };
        let mut ring = ring(8, 1);
        ring.write(OpId(1), &file, write_of(4096, block_of(1, 4096), true));
        ring.write(
            OpId(2),
            &file,
            write_of(2 * 4096, block_of(2, 2 * 4096), true),
        );
        ring.write(OpId(3), &file, write_of(6 * 4096, block_of(3, 4096), false));
        ring.sync(OpId(4), &file);
        let expected = [
            (1, Ok(()), Some(1)),
            (2, Ok(()), Some(2)),
            (3, Ok(()), Some(3)),
            (4, Ok(()), None),
        ];
        assert_eq!(stored(&mut ring, 4), expected, "direct: {direct}");
        assert_eq!(ring.inflight, 1, "the wake-up");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        let firsts: Vec<u8> = bytes.chunks(4096).map(|block| block[4095]).collect();
        assert_eq!(firsts, [0, 1, 2, 2, 0, 0, 3, 0]);
    }
}

#[test]
fn chains_beyond_the_queue_are_not_cut() {
    let Some((file, _)) = zeroed(false) else {
        panic!("every file system has a cache")
    };
    // Room for one chain, or for a wake-up and nothing else.
    let mut ring = ring(2, 1);
    for op in 0..20 {
        ring.write(
            OpId(op),
            &file,
            write_of(4096 * (op % 8), block_of(9, 4096), true),
        );
    }
    let ended = stored(&mut ring, 20);
    assert!(
        ended.iter().all(|(_, result, _)| result.is_ok()),
        "{ended:?}"
    );
    assert!(ended.iter().map(|(op, _, _)| *op).eq(0..20));
}

#[test]
fn a_write_that_fails_or_is_short_has_one_outcome_and_no_sync() {
    let full = Arc::new(OwnedFd::from(
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap(),
    ));
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let pipe = Arc::new(OwnedFd::from(writer));
    let mut ring = ring(8, 1);
    for sync in [true, false] {
        ring.write(OpId(1), &full, write_of(0, block_of(1, 4096), sync));
        // More than a pipe holds.
        ring.write(OpId(2), &pipe, write_of(0, block_of(2, 1 << 20), sync));
        let expected = [
            (1, Err(Errno::NOSPC), Some(1)),
            (2, Err(Errno::IO), Some(2)),
        ];
        assert_eq!(stored(&mut ring, 2), expected, "sync: {sync}");
        assert_eq!(ring.inflight, 1, "the wake-up");
        let mut drained = vec![0; 1 << 20];
        std::io::Read::read(&mut reader, &mut drained).unwrap();
    }
    // A pipe cannot be synced.
    ring.sync(OpId(3), &pipe);
    assert_eq!(stored(&mut ring, 1), [(3, Err(Errno::INVAL), None)]);
}

#[test]
fn a_ring_dropped_in_the_middle_of_a_write_leaves_the_block_to_the_kernel() {
    let (file, _reader) = zeroed(true).or_else(|| zeroed(false)).unwrap();
    let mut ring = ring(8, 1);
    ring.write(OpId(1), &file, write_of(0, block_of(1, 4096), true));
    ring.submit();
    drop(ring);
}
