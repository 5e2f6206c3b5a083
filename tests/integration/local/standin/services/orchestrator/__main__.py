from services.play import play

play("orchestrator")
