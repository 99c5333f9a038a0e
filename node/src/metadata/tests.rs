//! What a stripped picture has lost and what it has kept, and that no file whatever makes it panic.

use super::{
    CannotStrip, FileKind, MAX_PICTURE_BYTES, kind,
    samples::{
        self, CANVAS, NEEDLE, Piece, TURNED, contains, expected, file, gps_tiff, kept, png_chunk, riff, secret,
        segment, webp_chunk,
    },
    strip,
};

const UPRIGHT: u8 = 1;
const ON_ITS_SIDE: u8 = 6;

/// Every sample, upright, with the file it becomes.
fn all() -> Vec<(Vec<u8>, Vec<u8>)> {
    let webp = samples::webp_chunks(UPRIGHT);
    let flagged = {
        let mut file = [riff(&file(&webp)), NEEDLE.to_vec()].concat();
        file[20] |= 0b1100;
        file
    };
    let plain = |pieces: Vec<Piece>| (file(&pieces), expected(&pieces));
    vec![
        plain(samples::jpeg(UPRIGHT)),
        plain(samples::png(UPRIGHT)),
        plain(samples::gif()),
        (flagged, riff(&expected(&webp))),
    ]
}

#[test]
fn a_stripped_picture_is_the_picture_and_nothing_else() {
    for (file, expected) in all() {
        assert!(contains(&file, NEEDLE));
        assert_eq!(strip(&file).unwrap().escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(!contains(&expected, NEEDLE));
    }
}

#[test]
fn stripping_a_stripped_picture_changes_nothing() {
    let turned = [file(&samples::jpeg(ON_ITS_SIDE)), file(&samples::png(ON_ITS_SIDE)), {
        riff(&file(&samples::webp_chunks(ON_ITS_SIDE)))
    }];
    for file in all().into_iter().map(|(file, _)| file).chain(turned) {
        let once = strip(&file).unwrap();
        assert_eq!(kind(&once), kind(&file));
        assert_eq!(strip(&once).unwrap(), once);
    }
}

#[test]
fn a_jpeg_stays_on_its_side() {
    let mut pieces = samples::jpeg(ON_ITS_SIDE);
    pieces[1] = kept(segment(0xE1, &[b"Exif\0\0", TURNED].concat()));
    assert_eq!(strip(&file(&samples::jpeg(ON_ITS_SIDE))).unwrap(), expected(&pieces));
}

#[test]
fn a_jfif_header_stays_first_and_loses_its_thumbnail() {
    let mut pieces = samples::jpeg(ON_ITS_SIDE);
    let with_thumbnail = [b"JFIF\0\x01\x02\x01\0\x48\0\x48\x01\x06", NEEDLE].concat();
    pieces.insert(2, secret(segment(0xE0, &with_thumbnail)));
    let stripped = strip(&file(&pieces)).unwrap();
    let start = [
        &[0xFF, 0xD8][..],
        &segment(0xE0, b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0"),
        &segment(0xE1, &[b"Exif\0\0", TURNED].concat()),
    ];
    assert!(stripped.starts_with(&start.concat()));
    assert!(!contains(&stripped, NEEDLE));
}

#[test]
fn a_long_adobe_segment_is_cut_to_what_is_defined() {
    let mut pieces = samples::jpeg(UPRIGHT);
    let long = [b"Adobe\0\x64\0\0\0\0\x01", NEEDLE].concat();
    pieces[9] = secret(segment(0xEE, &long));
    let stripped = strip(&file(&pieces)).unwrap();
    assert!(contains(&stripped, &segment(0xEE, &long[..12])) && !contains(&stripped, NEEDLE));
}

#[test]
fn a_png_stays_on_its_side() {
    let mut pieces = samples::png(ON_ITS_SIDE);
    pieces.insert(2, kept(png_chunk(b"eXIf", TURNED)));
    assert_eq!(strip(&file(&samples::png(ON_ITS_SIDE))).unwrap(), expected(&pieces));
}

#[test]
fn a_webp_stays_on_its_side_whichever_way_its_exif_starts() {
    for exif in [gps_tiff(ON_ITS_SIDE), [b"Exif\0\0", &gps_tiff(ON_ITS_SIDE)[..]].concat()] {
        let header = |flags: u8| webp_chunk(b"VP8X", &[&[flags][..], CANVAS].concat());
        let image = webp_chunk(b"VP8L", b"odd");
        let picture = riff(&[header(0x1C), image.clone(), webp_chunk(b"EXIF", &exif)].concat());
        let turned = riff(&[header(0x18), image, webp_chunk(b"EXIF", TURNED)].concat());
        assert_eq!(strip(&picture).unwrap(), turned);
    }
}

#[test]
fn a_webp_frame_loses_what_is_hidden_in_it() {
    let image = webp_chunk(b"VP8 ", b"frame!");
    let frame = |extra: &[u8]| webp_chunk(b"ANMF", &[&[7; 16][..], &image, extra].concat());
    let picture = riff(&frame(&webp_chunk(b"XMP ", NEEDLE)));
    assert_eq!(strip(&picture).unwrap(), riff(&frame(b"")));
}

#[test]
fn a_simple_webp_may_leave_out_its_last_padding() {
    let mut picture = riff(&webp_chunk(b"VP8 ", b"odd"));
    let whole = picture.clone();
    picture.pop();
    picture[4] -= 1;
    assert_eq!(strip(&picture).unwrap(), whole);
}

#[test]
fn a_truncated_picture_is_an_error() {
    for (file, expected) in all() {
        // Cut behind the end marker, only what goes anyway is lost; a WebP has no marker, its header counts it.
        let whole = (0..file.len()).find(|end| strip(&file[..*end]).is_ok()).unwrap();
        for end in whole..file.len() {
            assert_eq!(strip(&file[..end]).unwrap(), expected);
        }
        assert!(whole > file.len() / 2, "{whole} of {}", file.len());
    }
}

#[test]
fn a_changed_byte_of_metadata_leaves_the_picture_as_it_is() {
    for pieces in [samples::jpeg(UPRIGHT), samples::gif()] {
        let mut start = 0;
        for piece in &pieces {
            // The needle only: lengths, markers and the orientation before it are structure.
            let needle = piece.bytes.windows(NEEDLE.len()).position(|window| window == NEEDLE);
            for at in needle.into_iter().flat_map(|found| found..found + NEEDLE.len()) {
                for value in 0..=u8::MAX {
                    let mut file = file(&pieces);
                    file[start + at] = value;
                    assert_eq!(strip(&file).unwrap(), expected(&pieces));
                }
            }
            start += piece.bytes.len();
        }
    }
}

#[test]
fn a_changed_byte_of_a_png_is_an_error_or_changes_nothing() {
    let pieces = samples::png(UPRIGHT);
    for at in 0..file(&pieces).len() {
        for value in 0..=u8::MAX {
            let mut file = file(&pieces);
            file[at] = value;
            assert!(strip(&file).map_or(true, |stripped| stripped == expected(&pieces)), "byte {at} = {value}");
        }
    }
}

#[test]
fn no_change_of_bytes_makes_it_panic() {
    // xorshift64: the same changes in every run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let odd = [0x00, 0x01, 0x7F, 0x80, 0xD8, 0xD9, 0xDA, 0xE1, 0xFE, 0xFF];
    for (file, _) in all() {
        for _ in 0..50_000 {
            let mut file = file.clone();
            for _ in 0..1 + next(4) {
                let at = next(file.len());
                file[at] = if next(2) == 0 { odd[next(odd.len())] } else { u8::try_from(next(256)).unwrap() };
            }
            file.truncate(file.len() - next(file.len()) * next(2));
            if let Ok(once) = strip(&file) {
                assert!(once.len() <= file.len() + 64);
                assert_eq!(strip(&once).unwrap(), once);
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_errors() {
    let malformed = |file: &[u8]| assert!(matches!(strip(file), Err(CannotStrip::Malformed(_))));
    malformed(b"\xFF\xD8\xFF\xE1\xFF\xFFExif");
    malformed(b"\xFF\xD8\xFF\xE1\0\x01Exif");
    malformed(b"\x89PNG\r\n\x1A\n\xFF\xFF\xFF\xFFIHDR");
    malformed(b"RIFF\xFF\xFF\xFF\xFFWEBPVP8 \xFF\xFF\xFF\xFF");
    malformed(b"RIFF\0\0\0\0WEBP");
    malformed(b"GIF89a\x01\0\x01\0\xF7\0\0");
}

#[test]
fn a_file_without_a_picture_is_an_error() {
    let malformed = |file: &[u8]| assert!(matches!(strip(file), Err(CannotStrip::Malformed(_))));
    malformed(b"\xFF\xD8\xFF\xD9");
    malformed(&[b"\x89PNG\r\n\x1A\n", &png_chunk(b"IHDR", b"")[..], &png_chunk(b"IEND", b"")].concat());
    malformed(&riff(&webp_chunk(b"EXIF", NEEDLE)));
    malformed(b"GIF89a\x01\0\x01\0\0\0\0\x3B");
}

#[test]
fn what_is_not_understood_is_refused_rather_than_guessed() {
    let mut jpeg_ls = samples::jpeg(UPRIGHT);
    jpeg_ls.insert(9, kept(segment(0xF7, NEEDLE)));
    let mut png = samples::png(UPRIGHT);
    png.insert(2, kept(png_chunk(b"NEWC", NEEDLE)));
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec();
    for file in [file(&jpeg_ls), file(&png), heic, b"a text".to_vec()] {
        assert!(matches!(strip(&file), Err(CannotStrip::Unsupported(_))));
    }
}

#[test]
fn a_picture_over_the_limit_is_too_large() {
    let mut picture = file(&samples::jpeg(UPRIGHT));
    picture.resize(MAX_PICTURE_BYTES, 0);
    assert_eq!(strip(&picture).unwrap(), expected(&samples::jpeg(UPRIGHT)));
    picture.push(0);
    assert_eq!(strip(&picture), Err(CannotStrip::TooLarge));
    assert_eq!(kind(&picture), FileKind::Jpeg);
}
