//! Room for connections: who only keeps it taken makes place for others.
//!
//! Invariant: at most as many connections are inside as there is room. When another one comes and there is none, a connection
//! is cut on which no request is being answered: the one of which that has been true for longest.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// The connections of a listener.
#[derive(Clone, Debug)]
pub(super) struct Room {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Idle>>,
}

/// Connections on which no request is being answered, in the order in which that began.
#[derive(Debug, Default)]
struct Idle {
    next: u64,
    list: BTreeMap<u64, AbortHandle>,
}

/// The place of a connection.
#[derive(Debug)]
pub(super) struct Seat {
    _permit: OwnedSemaphorePermit,
    idle: Arc<Mutex<Idle>>,
    /// Where it stands in the list.
    number: Mutex<Option<u64>>,
}

/// A request that is being answered, to the last byte of the answer.
#[derive(Debug)]
pub(super) struct Answering {
    seat: Arc<Seat>,
    connection: Option<AbortHandle>,
}

impl Room {
    /// For so many connections.
    pub(super) fn of(count: usize) -> Room {
        Room {
            permits: Arc::new(Semaphore::new(count)),
            idle: Arc::default(),
        }
    }

    /// Takes a place, perhaps that of an idle connection.
    pub(super) async fn enter(&self) -> Arc<Seat> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if let Some((_, oldest)) = lock(&self.idle).list.pop_first() {
                    oldest.abort();
                }
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                permit.expect("the semaphore is never closed")
            }
        };
        Arc::new(Seat {
            _permit: permit,
            idle: Arc::clone(&self.idle),
            number: Mutex::default(),
        })
    }
}

impl Seat {
    /// No request is being answered from here on.
    pub(super) fn rest(&self, connection: AbortHandle) {
        let mut idle = lock(&self.idle);
        let number = idle.next;
        idle.next += 1;
        idle.list.insert(number, connection);
        *lock(&self.number) = Some(number);
    }

    /// A request is being answered.
    pub(super) fn begin(self: &Arc<Seat>) -> Answering {
        Answering {
            connection: self.leave_list(),
            seat: Arc::clone(self),
        }
    }

    fn leave_list(&self) -> Option<AbortHandle> {
        let number = lock(&self.number).take()?;
        lock(&self.idle).list.remove(&number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave_list();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.seat.rest(connection);
        }
    }
}

impl Answering {
    /// The body of the answer, which keeps the connection from being idle.
    pub(super) fn hold(self, body: Body) -> Held {
        Held {
            body,
            _answering: self,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that does nothing.
    async fn connect(room: &Room) -> (Arc<Seat>, tokio::task::JoinHandle<()>) {
        let seat = room.enter().await;
        let inside = Arc::clone(&seat);
        let connection = tokio::spawn(async move {
            let _inside = inside;
            std::future::pending().await
        });
        seat.rest(connection.abort_handle());
        (seat, connection)
    }

    #[test]
    fn the_one_that_has_been_idle_for_longest_is_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let room = Room::of(2);
            let (first, first_task) = connect(&room).await;
            let (second, second_task) = connect(&room).await;
            // Of the first, a request is being answered.
            let answering = first.begin();
            drop(second);
            let (third, third_task) = connect(&room).await;
            assert!(second_task.await.unwrap_err().is_cancelled());
            // From here on the third has been idle for longer.
            drop(answering);
            drop(third);
            let (_fourth, _) = connect(&room).await;
            assert!(third_task.await.unwrap_err().is_cancelled());
            assert!(!first_task.is_finished());
            drop(first);
        });
    }
}
