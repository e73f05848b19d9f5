from marketplace.runners.contract import run

run("marketplace.runners.gpt2.task")
