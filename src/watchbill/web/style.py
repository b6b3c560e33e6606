"""The landing page's style sheet: one constant, so that the content security policy can name its hash."""

STYLE = """
:root{--ink:#1c2430;--soft:#5c6675;--line:#dfe3e8;--paper:#fff;--tint:#f6f7f9;--link:#0b57a4;
--up:#12703c;--up-bg:#ddf3e4;--down:#b3151f;--down-bg:#fde3e3;--degraded:#8a5a00;--degraded-bg:#fdf0d0;
--unknown:#4c5665;--unknown-bg:#e8ebef}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b4;--line:#303844;--paper:#14181e;--tint:#1b2129;
--link:#7db8f5;--up:#7fdca2;--up-bg:#123524;--down:#ff9a9a;--down-bg:#47181b;--degraded:#f3cb73;--degraded-bg:#40300c;
--unknown:#b4bdc9;--unknown-bg:#2a313b}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:88rem;padding:1.25rem 1.5rem 2rem;background:var(--paper);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:.5rem 2rem}
h1{margin:0;font-size:1.5rem}
h2{margin:2rem 0 .5rem;font-size:1.1rem}
a{color:var(--link);text-decoration:none}
a:hover{text-decoration:underline}
small{color:var(--soft);font-size:.85em;white-space:nowrap}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;margin:0;padding:0;list-style:none}
.counts li{padding:.15rem .75rem;border-radius:1rem}
nav{display:flex;flex-wrap:wrap;gap:.25rem;margin:1rem 0 .5rem}
nav a{padding:.1rem .7rem;border:1px solid var(--line);border-radius:1rem}
nav a[aria-current]{background:var(--tint);color:var(--ink);font-weight:600}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
table{width:100%;border-collapse:collapse}
th,td{padding:.45rem .75rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{background:var(--tint);color:var(--soft);font-size:.85em;font-weight:600;white-space:nowrap}
tbody tr:last-child td{border-bottom:0}
.is{white-space:nowrap}
.id{min-width:11rem;max-width:24rem;overflow-wrap:anywhere}
.of{min-width:8rem;overflow-wrap:break-word}
.long{min-width:12rem;overflow-wrap:anywhere}
.last{min-width:17rem;overflow-wrap:anywhere}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.status{display:inline-block;min-width:5.4rem;padding:.05rem .6rem;border-radius:1rem;text-align:center;font-size:.9em;
font-weight:600}
.up.status,.counts .up{background:var(--up-bg);color:var(--up)}
.down.status,.counts .down{background:var(--down-bg);color:var(--down)}
.degraded.status,.counts .degraded{background:var(--degraded-bg);color:var(--degraded)}
.unknown.status,.parked.status,.counts .unknown,.counts .parked{background:var(--unknown-bg);color:var(--unknown)}
.why b{color:var(--down);font-weight:600}
tr.unknown .why b{color:var(--unknown)}
.empty{padding:2rem;border:1px dashed var(--line);border-radius:.5rem;color:var(--soft);text-align:center}
footer{margin-top:2rem;color:var(--soft);font-size:.85em}
footer p{margin:.25rem 0}
@media(max-width:45rem){body{padding:1rem .75rem}
table,tbody{display:block}
thead,td:empty{display:none}
tr{display:flex;flex-wrap:wrap;align-items:baseline;gap:.15rem .75rem;padding:.6rem .75rem;border-bottom:1px solid var(--line)}
tr:last-child{border-bottom:0}
td{padding:0;border:0;min-width:0}
.id{flex:1 1 9rem;max-width:none}
.long,.last{flex:1 0 100%}}
"""
