//! The ring on sockets of this machine.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ringmq_core::connection::{Chunk, Output};
use rustix::event::{EventfdFlags, eventfd};

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
