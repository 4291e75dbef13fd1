//! The order of the code's rooms: imports run down, never up, and so never in a circle.

use pulpcov_tests::rooms::{HOUSES, House, arrows_up, imports, picture, root};

#[test]
fn no_room_imports_one_above_it() {
    let wrong: Vec<String> = HOUSES.iter().flat_map(|house| arrows_up(house, &imports(house))).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_up_is_found() {
    let upside_down = House { folder: "controller/src", rooms: &["command", "fleet", "output"] };
    let wrong = arrows_up(&upside_down, &imports(&upside_down)).join("\n");
    assert!(wrong.contains("controller/src: command imports fleet"), "{wrong}");
    assert!(wrong.contains("controller/src: agent has no place in the order"), "{wrong}");
}

#[test]
fn the_readmes_show_the_rooms_as_they_are() {
    for (folder, page) in [("agent/src", "agent/README.md"), ("controller/src", "controller/README.md")] {
        let house = HOUSES.iter().find(|house| house.folder == folder).expect("a house");
        let shown: String =
            picture(house).lines().skip(1).map(|line| format!("    {}\n", line.trim())).collect();
        let text = fs_err::read_to_string(root().join(page)).expect("a page");
        assert!(text.contains(&shown), "{page} wants what pulpcov-rooms prints:\n{shown}");
    }
}
