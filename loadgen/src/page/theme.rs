//! Colours, as style sheets: variables for the page, and rules for the classes of drawings, which
//! therefore follow the reader's preference wherever they are shown.

/// A colour in both themes.
struct Color {
    /// Name of the CSS variable, and of the class in drawings.
    name: &'static str,
    light: u32,
    dark: u32,
}

/// The class of what belongs to one subject, by its number. After eight they begin again.
pub(super) fn series(index: usize) -> &'static str {
    SERIES[index % SERIES.len()].name
}

/// Brokers that have the same colour on every page, by the first word of their label.
pub(super) fn home_color(label: &str) -> Option<usize> {
    let label = label.to_lowercase();
    let known = BROKERS.iter().position(|names| {
        let mut names = names.iter();
        names.any(|name| label.starts_with(name))
    });
    known.filter(|index| *index < SERIES.len())
}

/// So many subjects are told apart by colour.
pub(super) const SERIES_COUNT: usize = SERIES.len();

/// What a page needs: variables, and what drawings need.
pub(super) fn style_sheet() -> String {
    let variables = |value: fn(&Color) -> u32| {
        let all = SERIES.iter().chain(&OTHERS);
        let one = |color: &Color| format!("--{}:#{:06X};", color.name, value(color));
        all.map(one).collect::<String>()
    };
    let swatch = |color: &Color| format!(".dot.{0}{{background:var(--{0})}}", color.name);
    format!(
        ":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme:dark){{:root{{{}}}}}{}{}",
        variables(|color| color.light),
        variables(|color| color.dark),
        SERIES.iter().chain(&OTHERS).map(swatch).collect::<String>(),
        drawing_style()
    )
}

/// What a drawing needs that stands alone. No variables: not everything that shows drawings knows
/// them.
pub(super) fn drawing_style() -> String {
    format!(
        "{SHAPES}{}@media (prefers-color-scheme:dark){{{}}}",
        rules(|color| color.light),
        rules(|color| color.dark)
    )
}

/// How the classes of a drawing are painted: `stroke` and `solid` with a colour, the rest alone.
fn rules(value: fn(&Color) -> u32) -> String {
    let painted = SERIES.iter().chain(&OTHERS).map(|color| {
        let (name, value) = (color.name, value(color));
        format!("svg .{name}.stroke{{stroke:#{value:06X}}}svg .{name}.solid{{fill:#{value:06X}}}")
    });
    painted.collect()
}

const fn color(name: &'static str, light: u32, dark: u32) -> Color {
    Color { name, light, dark }
}

/// One per subject, in this order. Neighbours differ for people who confuse red and green, too.
const SERIES: [Color; 8] = [
    color("s1", 0x2A78D6, 0x3987E5),
    color("s2", 0xEB6834, 0xD95926),
    color("s3", 0x1BAF7A, 0x199E70),
    color("s4", 0xEDA100, 0xC98500),
    color("s5", 0x4A3AA7, 0x9085E9),
    color("s6", 0xE87BA4, 0xD55181),
    color("s7", 0x008300, 0x0CA30C),
    color("s8", 0xE34948, 0xE66767),
];
const OTHERS: [Color; 10] = [
    color("ink", 0x0B0B0B, 0xF4F4F2),
    color("soft", 0x52514E, 0xC3C2B7),
    color("grid", 0xE1E0D9, 0x2C2C2A),
    color("axis", 0xC3C2B7, 0x484844),
    color("surface", 0xFCFCFB, 0x1A1A19),
    // Behind what is not measured.
    color("shade", 0xF1F0EC, 0x242422),
    color("page", 0xF4F3EF, 0x0D0D0D),
    color("bad", 0xB3261E, 0xF28B82),
    color("good", 0x1B6E3C, 0x6CC48A),
    color("doubt", 0x8A5A00, 0xF0B849),
];
/// In the order of the colours.
const BROKERS: [&[&str]; 8] = [
    &["ringmq"],
    &["mosquitto"],
    &["emqx"],
    &["nanomq"],
    &["vernemq"],
    &["hivemq"],
    &["flashmq"],
    &["rmqtt", "rumqtt"],
];
/// Everything about the classes of drawings but their colours.
const SHAPES: &str = "svg text{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif;\
    font-size:13px}svg .title{font-size:14px;font-weight:600}svg .panel{font-weight:600}\
    svg .stroke{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
    svg .thin{stroke-width:1;stroke-linecap:butt}svg .dashed{stroke-dasharray:5 4}\
    svg .area{opacity:.18}svg .cell{shape-rendering:crispEdges}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_has_its_colour_on_every_page() {
        for (label, expected) in [
            ("ringmq", Some(0)),
            ("Mosquitto 2.0.22", Some(1)),
            ("mosquitto", Some(1)),
            ("127.0.0.1:1883", None),
            ("", None),
        ] {
            assert_eq!(home_color(label), expected, "{label}");
        }
    }

    #[test]
    fn drawings_have_colours_of_their_own_in_both_themes() {
        let style = drawing_style();
        assert!(!style.contains("var("), "{style}");
        for color in SERIES.iter().chain(&OTHERS) {
            for value in [color.light, color.dark] {
                assert!(style.contains(&format!("{}.solid{{fill:#{value:06X}", color.name)));
            }
        }
    }
}
