//! How `top` looks: what the broker does, its shards, its clients, the keys.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::View;
use super::picture::{Client, Picture, Shard};
use crate::ctl::ClientsBy;
use crate::ctl::show::{clean, count, span};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let ink = Ink {
        has_color: view.has_color,
    };
    let Some(picture) = &view.picture else {
        return;
    };
    let shards = picture.now().shards.len();
    // Two of the head, an empty one before each table, one for keys; tables have a head each.
    let room = usize::from(frame.area().height).saturating_sub(5);
    let shards_shown = (shards + 1).min((room / 2).max(2));
    let [head, _, of_shards, _, of_clients, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(shards_shown as u16),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(broker(picture, ink)), head);
    draw_shards(frame, of_shards, picture, ink);
    draw_clients(frame, of_clients, (view, picture), ink);
    frame.render_widget(Paragraph::new(last_line(view, picture, ink)), keys);
}

/// Styles, without colours if there are to be none.
#[derive(Clone, Copy, Debug)]
struct Ink {
    has_color: bool,
}

impl Ink {
    fn color(self, color: Color) -> Style {
        match self.has_color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn bad(self) -> Style {
        self.color(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.color(Color::Green)
    }

    fn soft(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn loud(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The column that decides.
    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }
}

fn broker(picture: &Picture, ink: Ink) -> Text<'static> {
    let broker = &picture.now().broker;
    let state = match broker.ready {
        true => Span::styled("ready", ink.good()),
        false => Span::styled("NOT READY", ink.bad()),
    };
    let lost = picture.rate(|broker| broker.messages_dropped);
    let pairs = [
        (
            "connections",
            format!(
                "{} of {}",
                whole(broker.connections),
                whole(broker.connections_max)
            ),
            false,
        ),
        ("sessions", whole(broker.sessions), false),
        (
            "in",
            rate(picture.rate(|broker| broker.publishes_received)),
            false,
        ),
        (
            "out",
            rate(picture.rate(|broker| broker.publishes_sent)),
            false,
        ),
        ("queued", whole(broker.queued_messages), false),
        ("lost", rate(lost), lost.is_some_and(|lost| lost > 0.0)),
    ];
    let mut second = Vec::new();
    for (name, value, is_bad) in pairs {
        let style = if is_bad { ink.bad() } else { ink.loud() };
        second.push(Span::styled(format!("{name} "), ink.soft()));
        second.push(Span::styled(format!("{value}   "), style));
    }
    let version = format!("ringmq {}  ", clean(&broker.version));
    let first = vec![
        Span::styled(version, ink.loud()),
        state,
        Span::styled(
            format!("  up {}", span(&broker.uptime_s.into())),
            ink.soft(),
        ),
    ];
    Text::from(vec![Line::from(first), Line::from(second)])
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, picture: &Picture, ink: Ink) {
    let now = picture.now();
    let busy = |index: usize| picture.shard_rate(index, |shard| shard.cpu_s);
    let mut indices: Vec<usize> = (0..now.shards.len()).collect();
    let room = usize::from(area.height).saturating_sub(1);
    if indices.len() > room {
        // The busiest ones, if not all can be seen.
        indices.sort_by(|a, b| busy(*b).unwrap_or(0.0).total_cmp(&busy(*a).unwrap_or(0.0)));
        indices.truncate(room);
    }
    let rows = indices.into_iter().map(|index| {
        let shard = &now.shards[index];
        let of =
            |read: fn(&Shard) -> u64| picture.shard_rate(index, |shard| Some(read(shard) as f64));
        let cells = [
            right(index.to_string()),
            Cell::from(bar(busy(index), ink)),
            right(share(picture.shard_rate(index, |shard| shard.runnable_s))),
            right(rate(of(|shard| shard.publishes_received))),
            right(rate(of(|shard| shard.publishes_sent))),
            right(whole(shard.connections)),
            right(whole(shard.queued_messages)),
            right(bytes(shard.unsent_bytes)),
            right(whole(shard.inbox_messages)),
        ];
        let style = match shard.responding {
            true => Style::new(),
            false => ink.bad(),
        };
        Row::new(cells).style(style)
    });
    let titles = [
        "SHARD",
        "BUSY",
        "NO CORE",
        "IN",
        "OUT",
        "CONNECTIONS",
        "QUEUED",
        "UNSENT",
        "INBOX",
    ];
    let title = |(index, title): (usize, &'static str)| match index {
        1 => Cell::from(title),
        _ => right(title.to_owned()),
    };
    let head = Row::new(titles.iter().copied().enumerate().map(title)).style(ink.soft());
    let widths = [5, 18, 7, 8, 8, 11, 8, 8, 7].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// `||||||      62 %`
fn bar(busy: Option<f64>, ink: Ink) -> Line<'static> {
    const WIDTH: usize = 12;
    let full = (busy.unwrap_or(0.0) * WIDTH as f64).round() as usize;
    let full = full.min(WIDTH);
    let style = match busy.is_some_and(|busy| busy > HOT) {
        true => ink.bad(),
        false => ink.color(Color::Cyan),
    };
    Line::from(vec![
        Span::styled("|".repeat(full), style),
        Span::raw(format!("{}{:>6}", " ".repeat(WIDTH - full), share(busy))),
    ])
}

/// A column of the clients: its title, by what it orders, and what it shows.
type Column = (
    &'static str,
    Option<ClientsBy>,
    fn(&Picture, &Client) -> String,
);

/// In the order of the screen.
const COLUMNS: [Column; 9] = [
    ("QUEUED", Some(ClientsBy::Queued), |_, client| {
        whole(client.queued_messages)
    }),
    ("UNSENT", Some(ClientsBy::Unsent), |_, client| {
        bytes(client.unsent_bytes)
    }),
    ("IN/s", None, |picture, client| {
        rate(picture.client_rate(client, |c| c.r#in))
    }),
    ("IN", Some(ClientsBy::In), |_, client| {
        short(client.r#in as f64)
    }),
    ("OUT/s", None, |picture, client| {
        rate(picture.client_rate(client, |c| c.out))
    }),
    ("OUT", Some(ClientsBy::Out), |_, client| {
        short(client.out as f64)
    }),
    ("DROPPED", Some(ClientsBy::Dropped), |_, client| {
        whole(client.dropped)
    }),
    ("BYTES", Some(ClientsBy::Bytes), |_, client| {
        bytes(client.bytes)
    }),
    ("SUBSCR.", Some(ClientsBy::Subscriptions), |_, client| {
        whole(client.subscriptions)
    }),
];
/// Those that go first, if the screen is narrow.
const SPARE: [&str; 7] = ["SUBSCR.", "BYTES", "IN", "UNSENT", "DROPPED", "IN/s", "OUT"];
const COLUMN_WIDTH: u16 = 9;
const NAME_WIDTH_MIN: u16 = 20;

/// As many as there is room for, with the one that decides.
fn columns_for(width: u16, by: ClientsBy) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    for spare in SPARE {
        let needed = NAME_WIDTH_MIN + columns.len() as u16 * (COLUMN_WIDTH + 1);
        if needed > width {
            columns.retain(|(title, orders, _)| *title != spare || *orders == Some(by));
        }
    }
    columns
}

fn draw_clients(frame: &mut Frame<'_>, area: Rect, (view, picture): (&View, &Picture), ink: Ink) {
    let columns = columns_for(area.width, view.by);
    let rows = picture.now().clients.rows.iter().skip(view.first);
    let rows = rows.take(usize::from(area.height)).map(|client| {
        let numbers = columns.iter().map(|(_, orders, show)| {
            let style = match *orders == Some(view.by) {
                true => ink.loud(),
                false => Style::new(),
            };
            right(show(picture, client)).style(style)
        });
        let name = match &*client.client_id {
            "" => "(empty)".to_owned(),
            name => clean(name),
        };
        let style = match client.connected {
            true => Style::new(),
            false => ink.soft(),
        };
        Row::new(std::iter::once(Cell::from(name)).chain(numbers)).style(style)
    });
    let titles = columns.iter().map(|(title, orders, _)| {
        let style = match *orders == Some(view.by) {
            true => ink.chosen(),
            false => ink.soft(),
        };
        right((*title).to_owned()).style(style)
    });
    let name = Cell::from("CLIENT").style(ink.soft());
    let head = Row::new(std::iter::once(name).chain(titles));
    let widths = columns.iter().map(|_| Constraint::Length(COLUMN_WIDTH));
    let widths = std::iter::once(Constraint::Fill(1)).chain(widths);
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// The keys, or what is wrong.
fn last_line(view: &View, picture: &Picture, ink: Ink) -> Line<'static> {
    if let Some(trouble) = &view.trouble {
        return Line::styled(clean(trouble), ink.bad());
    }
    let missing = &picture.now().clients.missing;
    if !missing.is_empty() {
        let shards: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let what = format!(
            "shards that do not answer: {}; their clients are missing",
            shards.join(", ")
        );
        return Line::styled(what, ink.bad());
    }
    let mut spans = Vec::new();
    let state = if view.is_paused { "go on" } else { "pause" };
    let order = format!("by {}", view.by.name());
    for (key, what) in [
        ("q", "quit"),
        ("s", &*order),
        ("space", state),
        ("↓↑", "scroll"),
    ] {
        spans.push(Span::styled(format!(" {key} "), ink.chosen()));
        spans.push(Span::raw(format!(" {what}   ")));
    }
    if view.is_paused {
        spans.push(Span::styled("PAUSED", ink.bad()));
    }
    Line::from(spans)
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).alignment(Alignment::Right))
}

fn whole(number: u64) -> String {
    count(&number.into())
}

/// Per second; nothing, if it is not known yet.
fn rate(number: Option<f64>) -> String {
    number.map_or("-".to_owned(), |number| format!("{}/s", short(number)))
}

/// In five characters at most: 182k, 1.2M, 7.
fn short(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T"])
}

fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &["", "Ki", "Mi", "Gi", "Ti"])
}

fn scaled(number: f64, base: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    while number >= base * 0.9995 && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    let is_whole = number >= 99.95 || (number - number.round()).abs() < 0.05;
    match is_whole {
        true => format!("{number:.0}{}", units[unit]),
        false => format!("{number:.1}{}", units[unit]),
    }
}

fn share(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// A shard that is busier has nothing left for a burst.
const HOT: f64 = 0.9;

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::picture::tests::look;
    use super::*;

    fn view() -> View {
        View {
            picture: Some(Picture::of(look(0)).followed_by(look(1))),
            trouble: None,
            by: ClientsBy::Out,
            first: 0,
            is_paused: false,
            has_color: true,
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width);
        let row = |row: &[ratatui::buffer::Cell]| {
            let text: String = row.iter().map(|cell| cell.symbol()).collect();
            text.trim_end().to_owned()
        };
        rows.map(row).collect()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let shown = lines(&drawn(&view(), 120, 20));
        assert_eq!(shown[0], "ringmq 0.1.0  ready  up 3 d 4 h");
        assert_eq!(
            shown[1],
            "connections 8 of 1,000   sessions 9   in 100/s   out 2.5k/s   queued 14   lost 0/s"
        );
        assert_eq!(
            shown[3],
            "SHARD BUSY               NO CORE       IN      OUT CONNECTIONS   QUEUED   UNSENT   \
             INBOX"
        );
        assert_eq!(
            shown[4],
            "    0 |||||||       62 %     0 %     50/s   1.2k/s           4        7    121Ki       \
             0"
        );
        assert!(shown[7].starts_with("CLIENT "), "{shown:#?}");
        assert!(
            shown[7].ends_with("DROPPED     BYTES   SUBSCR."),
            "{shown:#?}"
        );
        assert!(shown[8].starts_with("meter-40 "), "{shown:#?}");
        let numbers =
            "9,912         0      10/s        10     40k/s       40k         3     7.5Mi         1";
        assert!(shown[8].ends_with(numbers), "{shown:#?}");
        assert!(
            shown[19].contains("shards that do not answer: 1;"),
            "{shown:#?}"
        );
    }

    #[test]
    fn a_narrow_screen_keeps_the_name_and_the_column_that_decides() {
        for (width, by, expected) in [
            (
                80,
                ClientsBy::Out,
                "CLIENT QUEUED UNSENT IN/s OUT/s OUT DROPPED",
            ),
            (
                80,
                ClientsBy::Bytes,
                "CLIENT QUEUED IN/s OUT/s OUT DROPPED BYTES",
            ),
            (50, ClientsBy::Subscriptions, "CLIENT QUEUED OUT/s SUBSCR."),
        ] {
            let view = View { by, ..view() };
            let shown = lines(&drawn(&view, width, 20));
            let titles: Vec<&str> = shown[7].split_whitespace().collect();
            assert_eq!(titles.join(" "), expected, "{width}");
        }
        // Whatever the size, nothing panics.
        for (width, height) in [(1, 1), (10, 3), (30, 6), (300, 5), (20, 100)] {
            drawn(&view(), width, height);
        }
    }

    #[test]
    fn the_busiest_shards_are_shown_if_there_is_no_room_for_all() {
        let mut picture = Picture::of(look(0));
        let mut next = look(1);
        next.shards[1].cpu_s = Some(0.95);
        picture = picture.followed_by(next);
        let view = View {
            picture: Some(picture),
            ..view()
        };
        let shown = lines(&drawn(&view, 100, 9));
        assert!(
            shown[4].starts_with("    1 |||||||||||   95 %"),
            "{shown:#?}"
        );
        assert!(shown[5].is_empty(), "{shown:#?}");
    }

    #[test]
    fn there_are_no_colours_where_none_are_wanted() {
        let is_plain = |buffer: &Buffer| {
            let mut cells = buffer.content.iter();
            cells.all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
        };
        assert!(!is_plain(&drawn(&view(), 100, 20)));
        let plain = View {
            has_color: false,
            trouble: Some("x".to_owned()),
            ..view()
        };
        assert!(is_plain(&drawn(&plain, 100, 20)));
    }

    #[test]
    fn the_last_line_says_what_is_wrong_or_which_keys_there_are() {
        let mut view = view();
        view.trouble = Some("it cannot be\u{1b}[31m reached".to_owned());
        let last = |view: &View| lines(&drawn(view, 100, 20)).pop().unwrap();
        assert_eq!(last(&view), "it cannot be\\u{1b}[31m reached");
        view.trouble = None;
        view.is_paused = true;
        let mut look = look(1);
        look.clients.missing.clear();
        view.picture = Some(Picture::of(look));
        let expected = " q  quit    s  by out    space  go on    ↓↑  scroll   PAUSED";
        assert_eq!(last(&view), expected);
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (7.26, "7.3"),
            (182.4, "182"),
            (999.9, "1k"),
            (1234.0, "1.2k"),
            (182_000.0, "182k"),
            (1.0e15, "1000T"),
        ] {
            assert_eq!(short(number), expected);
        }
        assert_eq!(bytes(8_300_000), "7.9Mi");
    }
}
