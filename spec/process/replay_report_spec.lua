-- SPDX-License-Identifier: MIT
--
-- The page that `neap replay --report` writes, as a browser shows it. A copy of the page gets a script that reads the
-- charts back: where marks lie between the ticks of the axes, after layout, and how many pixels the bars have. What is
-- read must be what --json tells. Skipped where there is no headless Chromium.

local json = require 'spec.support.json'
local kit = require 'spec.support.check'

local agents = kit.root .. '/tests/data/lmcache_agents_256ch.jsonl.xz'

local function browser()
  for _, name in ipairs { 'chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome' } do
    local status, path = kit.run { 'sh', '-c', 'command -v ' .. name }
    if status == 0 then
      return (path:gsub('%s+$', ''))
    end
  end
end

-- Runs in the page. Positions are those of the screen; ticks carry the values that they stand for.
local reader = [[
<pre id="read"></pre><script>
function middle(e) { const b = e.getBoundingClientRect(); return [(b.left + b.right) / 2, (b.top + b.bottom) / 2]; }
function scale(svg, axis, at) {
  const ticks = [...svg.querySelectorAll('.' + axis + '.tick[data-value]')];
  if (ticks.length < 2) return null;
  const a = ticks[0], b = ticks[ticks.length - 1];
  const va = +a.dataset.value, vb = +b.dataset.value, pa = middle(a)[at], pb = middle(b)[at];
  return p => va + (p - pa) / (pb - pa) * (vb - va);
}
const charts = [...document.querySelectorAll('svg.chart')].map(svg => {
  const y = scale(svg, 'y', 1);
  const box = svg.getBoundingClientRect();
  return {
    id: svg.id, role: svg.getAttribute('role'), width: box.width, height: box.height,
    named: (svg.getAttribute('aria-labelledby') || '').split(' ').every(i => document.getElementById(i).textContent),
    texts: [...svg.querySelectorAll('text')].every(t => {
      const b = t.getBoundingClientRect();
      return b.width > 0 && b.left >= box.left - 1 && b.right <= box.right + 1 && b.bottom <= box.bottom + 1;
    }),
    series: [...svg.querySelectorAll('g.series, g.guide')].map(g => ({
      name: g.dataset.series, colour: getComputedStyle(g.querySelector('.line')).stroke,
      length: g.querySelector('.line').getTotalLength(), guide: g.classList.contains('guide'),
      marks: [...g.querySelectorAll('.mark')].map(m =>
        ({ y: y(middle(m)[1]), tip: m.querySelector('title').textContent })),
    })),
    bars: [...svg.querySelectorAll('rect.bar')].map(r => {
      const b = r.getBoundingClientRect();
      return { y: y(b.top) - y(b.bottom), told: +r.dataset.y, tip: r.querySelector('title').textContent };
    }),
  };
});
const loads = performance.getEntriesByType('resource').length;
document.getElementById('read').textContent = JSON.stringify({ charts: charts, loads: loads,
  rows: [...document.querySelectorAll('tbody tr')].map(r => [...r.children].map(c => c.textContent)),
  page: getComputedStyle(document.body).backgroundColor });
</script>]]

local entities = { lt = '<', gt = '>', amp = '&', quot = '"' }

describe('the report of neap replay', function()
  local chromium = browser()
  if not chromium then
    pending 'no headless Chromium: the report is not opened (apt install chromium-headless-shell)'
    return
  end

  local directory, remove, page, figures

  setup(function()
    directory, remove = kit.directory()
    local words = { kit.bin, 'replay', agents, '--policy', 'lru,arc,s3fifo', '--size', '2%,5%,20%', '--json',
      '--report', directory .. '/report.html' }
    local status, text = kit.run(words)
    assert(status == 0, text)
    figures = {}
    for line in text:gmatch '[^\n]+' do
      figures[#figures + 1] = json.decode(line)
    end
    local file = assert(io.open(directory .. '/report.html'))
    page = file:read '*a'
    file:close()
  end)

  teardown(function()
    remove()
  end)

  local function chrome(...)
    return kit.run { 'timeout', '60', chromium, '--headless', '--no-sandbox', '--disable-gpu',
      '--user-data-dir=' .. directory .. '/profile', '--virtual-time-budget=2000', ... }
  end

  -- The page with the reader at its end, and without the line that forbids scripts, opened and read.
  local function read(scheme)
    local text, count = page:gsub('<meta http%-equiv="Content%-Security%-Policy"[^\n]*\n', '')
    assert.equal(1, count)
    local path = directory .. '/read.html'
    local file = assert(io.open(path, 'w'))
    file:write((text:gsub('</main>', '</main>' .. reader:gsub('%%', '%%%%'))))
    file:close()
    local _, dom = chrome('--dump-dom', '--window-size=1280,1024',
      '--blink-settings=preferredColorScheme=' .. (scheme == 'dark' and 0 or 1), 'file://' .. path)
    local result = assert(dom:match '<pre id="read">(.-)</pre>', dom:sub(1, 2000))
    return json.decode((result:gsub('&(%a+);', entities)))
  end

  local function chart(result, id)
    for _, one in ipairs(result.charts) do
      if one.id == id then
        return one
      end
    end
    error('no chart ' .. id)
  end

  it('asks for nothing and runs nothing', function()
    assert.is_nil(page:find '<script')
    assert.is_nil(page:find '[hH][tT][tT][pP]s?://')
    assert.is_nil(page:find ' src=')
    assert.is_nil(page:find '@import')
    assert.truthy(page:find("default-src 'none'", 1, true))
    assert.equal(0, read().loads)
  end)

  it('shows the hit ratios of every policy at every size where they belong', function()
    local result = read()
    for id, field in pairs {
      ['t1-prefix-over-size'] = 'prefix_hit_ratio', ['t1-block-over-size'] = 'block_hit_ratio',
    } do
      local drawn = chart(result, id)
      local colours = {}
      local lines = 0
      for _, series in ipairs(drawn.series) do
        if not series.guide then
          lines = lines + 1
          assert.equal(3, #series.marks)
          assert.is_nil(colours[series.colour])
          colours[series.colour] = true
          local at = 0
          for _, figure in ipairs(figures) do
            if figure.policy == series.name then
              at = at + 1
              assert.near(figure[field], series.marks[at].y, 0.004)
              assert.truthy(series.marks[at].tip:find(series.name, 1, true))
            end
          end
          assert.equal(3, at)
        end
      end
      assert.equal(3, lines)
    end
  end)

  it('shows bars as high as their values, and every touch in the reuse distances', function()
    local result = read()
    local sum = 0
    for _, bar in ipairs(chart(result, 't1-reuse').bars) do
      assert.near(bar.told, bar.y, 300)
      sum = sum + bar.told
    end
    assert.equal(61278, sum)
    local tenants = chart(result, 't1-tenants').bars
    assert.is_true(#tenants > 3 and #tenants % 3 == 0)
    for _, bar in ipairs(tenants) do
      assert.near(bar.told, bar.y, 0.01)
    end
  end)

  it('can be read: charts with names, no text cut off, the table with all runs', function()
    local result = read()
    assert.equal(5, #result.charts)
    for _, one in ipairs(result.charts) do
      assert.equal('img', one.role)
      assert.is_true(one.named and one.texts, one.id)
      assert.is_true(one.width > 300 and one.height > 150)
    end
    for _, series in ipairs(chart(result, 't1-over-time').series) do
      assert.is_true(series.length > 100)
    end
    assert.equal(#figures, #result.rows)
    for i, figure in ipairs(figures) do
      assert.equal(figure.policy, result.rows[i][1])
      assert.equal(('%.4f'):format(figure.prefix_hit_ratio), result.rows[i][4])
      assert.equal(('%.4f'):format(figure.block_hit_ratio), result.rows[i][5])
    end
  end)

  it('is dark for those who want it dark', function()
    local light, dark = read 'light', read 'dark'
    assert.are_not.equal(light.page, dark.page)
    assert.are_not.equal(chart(light, 't1-over-time').series[1].colour, chart(dark, 't1-over-time').series[1].colour)
  end)

  it('is more than white paper on the screen', function()
    local path = directory .. '/shot.png'
    local _, text = chrome('--screenshot=' .. path, '--window-size=1280,1800', 'file://' .. directory .. '/report.html')
    local file = assert(io.open(path, 'rb'), text)
    local picture = file:read '*a'
    file:close()
    assert.equal('\137PNG\r\n\26\n', picture:sub(1, 8))
    assert.is_true(#picture > 50000)
  end)
end)
