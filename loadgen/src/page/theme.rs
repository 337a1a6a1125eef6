//! Colours. Plots are drawn in those of the light theme; style sheets exchange them for variables,
//! so that a page and a picture follow the reader's preference.

use plotters::style::RGBColor;

/// A colour in both themes.
pub(super) struct Color {
    /// Name of the CSS variable.
    name: &'static str,
    light: u32,
    dark: u32,
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
pub(super) const INK: Color = color("ink", 0x0B0B0B, 0xF4F4F2);
pub(super) const SOFT: Color = color("soft", 0x52514E, 0xC3C2B7);
pub(super) const GRID: Color = color("grid", 0xE1E0D9, 0x2C2C2A);
pub(super) const AXIS: Color = color("axis", 0xC3C2B7, 0x484844);
pub(super) const SURFACE: Color = color("surface", 0xFCFCFB, 0x1A1A19);
/// Behind what is not measured.
pub(super) const SHADE: Color = color("shade", 0xF1F0EC, 0x242422);
const PAGE: Color = color("page", 0xF4F3EF, 0x0D0D0D);
const BAD: Color = color("bad", 0xB3261E, 0xF28B82);
const GOOD: Color = color("good", 0x1B6E3C, 0x6CC48A);
const OTHERS: [Color; 9] = [INK, SOFT, GRID, AXIS, SURFACE, SHADE, PAGE, BAD, GOOD];

const fn color(name: &'static str, light: u32, dark: u32) -> Color {
    Color { name, light, dark }
}

impl Color {
    /// For plots.
    pub(super) fn rgb(&self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// For style attributes: `var(--ink)`.
    pub(super) fn css(&self) -> String {
        format!("var(--{})", self.name)
    }
}

/// The colour of a subject. After eight they begin again.
pub(super) fn series(index: usize) -> &'static Color {
    &SERIES[index % SERIES.len()]
}

/// The variables, in both themes, and the rules that put them in place of a plot's colours.
pub(super) fn style_sheet() -> String {
    let variables = |value: fn(&Color) -> u32| {
        let one = |color: &Color| format!("--{}:#{:06X};", color.name, value(color));
        all().map(one).collect::<String>()
    };
    let rule = |color: &Color| {
        let (name, light) = (color.name, color.light);
        format!(
            "svg [stroke=\"#{light:06X}\"]{{stroke:var(--{name})}}svg [fill=\"#{light:06X}\"]{{fill:var(--{name})}}"
        )
    };
    format!(
        ":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme:dark){{:root{{{}}}}}{}",
        variables(|color| color.light),
        variables(|color| color.dark),
        all().map(rule).collect::<String>()
    )
}

fn all() -> impl Iterator<Item = &'static Color> {
    SERIES.iter().chain(&OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_is_found_again_by_its_light_value() {
        let mut values: Vec<u32> = all().map(|color| color.light).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), all().count());
    }
}
